"""The published sizes by their names."""

from dit.backbones.maskgit import HaltonMaskGIT, MaskGIT, TokenTransformer
from dit.backbones.transformer import DiT, SiT

FAMILIES = {"DiT": DiT, "SiT": SiT}
SIZES = {
    "S": {"depth": 12, "hidden_size": 384, "num_heads": 6},
    "B": {"depth": 12, "hidden_size": 768, "num_heads": 12},
    "L": {"depth": 24, "hidden_size": 1024, "num_heads": 16},
    "XL": {"depth": 28, "hidden_size": 1152, "num_heads": 16},
}
PATCHES = (1, 2, 4, 8)
PUBLISHED = {
    f"{family}-{size}/{patch}": (family, size, patch) for family in FAMILIES for size in SIZES for patch in PATCHES
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
    input_size: int = 32,
    in_channels: int = 4,
    num_classes: int = 1000,
    mlp_ratio: float = 4.0,
    class_dropout_prob: float = 0.1,
    learn_sigma: bool = True,
) -> DiT:
    """A backbone of a published size.

    Args:
        name: family-size/patch, e.g. "DiT-XL/2" or "SiT-B/4".
        input_size: side of the latents.
        in_channels: of the latents.
        num_classes: labels are 0 ... num_classes - 1.
        mlp_ratio: hidden width of the MLPs over the width of the tokens.
        class_dropout_prob: of dropping a label in training.
        learn_sigma: predict the variance, too (the public SiT has these outputs and leaves them unused).

    Raises:
        ValueError: if the name is none of `PUBLISHED`.
    """
    if name not in PUBLISHED:
        raise ValueError(f"backbone {name!r} is unknown: use {{DiT,SiT}}-{{S,B,L,XL}}/{{1,2,4,8}}")
    family, size, patch_size = PUBLISHED[name]
    return FAMILIES[family](
        input_size=input_size,
        patch_size=patch_size,
        in_channels=in_channels,
        num_classes=num_classes,
        mlp_ratio=mlp_ratio,
        class_dropout_prob=class_dropout_prob,
        learn_sigma=learn_sigma,
        **SIZES[size],
    )


def create_token_backbone(
    name: str = "MaskGIT-v2-base",
    input_size: int = 16,
    num_codes: int = 16384,
    num_classes: int = 1000,
    dropout: float = 0.1,
    class_dropout_prob: float = 0.1,
) -> TokenTransformer:
    """A backbone of a published size that predicts tokens.

    Args:
        name: a key of `TOKEN_BACKBONES`.
        input_size: side of the token grid.
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
