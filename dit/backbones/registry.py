"""The published sizes by their names."""

from dit.backbones.embeddings import FREQUENCIES
from dit.backbones.halton_maskgit import HaltonMaskGIT
from dit.backbones.interface import Auto
from dit.backbones.maskgit import MaskGIT, TokenTransformer
from dit.backbones.transformer import DiT, SiT

FAMILIES = {"DiT": DiT, "SiT": SiT}
SIZES = {
    "S": {"depth": 12, "hidden_size": 384, "num_heads": 6},
    "B": {"depth": 12, "hidden_size": 768, "num_heads": 12},
    "L": {"depth": 24, "hidden_size": 1024, "num_heads": 16},
    "XL": {"depth": 28, "hidden_size": 1152, "num_heads": 16},
}
PATCHES = (1, 2, 4, 8)
LARGE_SIZES = {
    "1.0B": {"depth": 24, "hidden_size": 1536, "num_heads": 24},
    "1.6B": {"depth": 28, "hidden_size": 1792, "num_heads": 28},
}
LIGHTNING = {"rms_norm": True, "swiglu": True, "rotary": True, "learn_sigma": False}  # the block of LightningDiT
LIGHTNING_SIZES = (("B", 1), ("B", 2), ("L", 2), ("XL", 1), ("XL", 2), ("1.0B", 1), ("1.6B", 1))
PUBLISHED = {
    f"{family}-{size}/{patch}": (kind, {"patch_size": patch, "learn_sigma": True, **shape})
    for family, kind in FAMILIES.items()
    for size, shape in SIZES.items()
    for patch in PATCHES
} | {
    f"LightningDiT-{size}/{patch}": (SiT, {"patch_size": patch, **(SIZES | LARGE_SIZES)[size], **LIGHTNING})
    for size, patch in LIGHTNING_SIZES
}
TOKEN_BACKBONES = {
    "MaskGIT-v1": (MaskGIT, {"depth": 24, "hidden_size": 768, "num_heads": 16}),
    "MaskGIT-v2-tiny": (HaltonMaskGIT, {"depth": 6, "hidden_size": 384, "num_heads": 6}),
    "MaskGIT-v2-small": (HaltonMaskGIT, {"depth": 12, "hidden_size": 512, "num_heads": 6}),
    "MaskGIT-v2-base": (HaltonMaskGIT, {"depth": 12, "hidden_size": 768, "num_heads": 12}),
    "MaskGIT-v2-large": (HaltonMaskGIT, {"depth": 24, "hidden_size": 1024, "num_heads": 16}),
    "MaskGIT-v2-xlarge": (HaltonMaskGIT, {"depth": 28, "hidden_size": 1152, "num_heads": 16}),
}


def create_backbone(
    name: str = "SiT-B/2",
    input_size: int | Auto = 32,
    in_channels: int | Auto = 4,
    num_classes: int | Auto = 1000,
    patch_size: int | Auto | None = None,
    mlp_ratio: float = 4.0,
    class_dropout_prob: float = 0.1,
    learn_sigma: bool | None = None,
    rms_norm: bool | None = None,
    swiglu: bool | None = None,
    rotary: bool | None = None,
    qk_norm: bool = False,
    frequency_divisor: int = FREQUENCIES,
    gradient_checkpointing: bool = False,
) -> DiT:
    """A backbone of a published size.

    Args:
        name: family-size/patch, e.g. "DiT-XL/2", "SiT-B/4" or "LightningDiT-XL/1".
        input_size: side of the latents; "auto" in a config is that of the cache (`dit.following`), as for the next two.
        in_channels: of the latents.
        num_classes: labels are 0 ... num_classes - 1.
        patch_size: side of a token's patch; null takes that of the name, "auto" in a config the one that keeps its
            number of tokens (`dit.backbones.patches.comparable_patch`).
        mlp_ratio: hidden width of the MLPs over the width of the tokens.
        class_dropout_prob: of dropping a label in training.
        learn_sigma: predict the variance, too (the public SiT has these outputs and leaves them unused). Null takes
            the family's: true for DiT and SiT, false for LightningDiT.
        rms_norm: RMS norms with learned weights; null takes the family's (on for LightningDiT), as for the next two.
        swiglu: a gated MLP.
        rotary: rotate queries and keys by their place.
        qk_norm: normalize queries and keys; helps where training becomes not finite.
        frequency_divisor: of the time's frequencies; 127 makes exports for diffusers exact at any number of steps.
        gradient_checkpointing: compute blocks anew in the backward pass, for memory.

    Raises:
        ValueError: if the name is none of `PUBLISHED`.
    """
    if name not in PUBLISHED:
        raise ValueError(f"backbone {name!r} is unknown: use one of {', '.join(PUBLISHED)}")
    family, published = PUBLISHED[name]
    options = {
        "patch_size": patch_size,
        "learn_sigma": learn_sigma,
        "rms_norm": rms_norm,
        "swiglu": swiglu,
        "rotary": rotary,
    }
    return family(
        input_size=input_size,
        in_channels=in_channels,
        num_classes=num_classes,
        mlp_ratio=mlp_ratio,
        class_dropout_prob=class_dropout_prob,
        qk_norm=qk_norm,
        frequency_divisor=frequency_divisor,
        gradient_checkpointing=gradient_checkpointing,
        **published | {option: value for option, value in options.items() if value is not None},
    )


def create_token_backbone(
    name: str = "MaskGIT-v2-base",
    input_size: int | Auto = 16,
    num_codes: int | Auto = 16384,
    num_classes: int | Auto = 1000,
    dropout: float = 0.1,
    class_dropout_prob: float = 0.1,
) -> TokenTransformer:
    """A backbone of a published size that predicts tokens.

    Args:
        name: a key of `TOKEN_BACKBONES`.
        input_size: side of the token grid; "auto" in a config is that of the cache, as for codes and classes.
        num_codes: of the codebook.
        num_classes: labels are 0 ... num_classes - 1.
        dropout: of attention weights and of what attention and MLP add.
        class_dropout_prob: of dropping a label in training.

    Raises:
        ValueError: if the name is none of `TOKEN_BACKBONES`.
    """
    if name not in TOKEN_BACKBONES:
        raise ValueError(f"token backbone {name!r} is unknown: use one of {', '.join(TOKEN_BACKBONES)}")
    family, size = TOKEN_BACKBONES[name]
    return family(
        input_size=input_size,
        num_codes=num_codes,
        num_classes=num_classes,
        dropout=dropout,
        class_dropout_prob=class_dropout_prob,
        **size,
    )
