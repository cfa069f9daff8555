"""Representation alignment (REPA): tokens of one block are pulled towards the features of a frozen encoder.

Source: Yu et al., "Representation alignment for generation", 2024. An option of stage 2: `encoders` turn images into
targets, `objective` holds projector and loss, `cache_module` writes targets to disk; `projectors`, `cknna` and
`measure` tell after training how well each block is aligned.
"""

from dit.alignment.encoders import ENCODERS, Encoder
from dit.alignment.objective import Alignment, cosine_alignment, tokens_after

__all__ = ["ENCODERS", "Alignment", "Encoder", "cosine_alignment", "tokens_after"]
