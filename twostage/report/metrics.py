"""How metrics are called in tables, and which direction is better."""

from collections.abc import Iterable

METRICS = {
    "psnr": ("PSNR (dB)", "↑"),
    "ssim": ("SSIM", "↑"),
    "perceptual": ("Perceptual", "↓"),
    "lpips": ("LPIPS", "↓"),
    "rfid": ("rFID", "↓"),
    "rfd_efficientnet_lite0": ("rFD", "↓"),
    "intrinsic_dimension": ("Intrinsic dimension (TwoNN)", ""),
    "effective_rank": ("Effective rank", ""),
    "high_frequency_share": ("High-frequency share", ""),
    "fid": ("FID", "↓"),
    "fd_efficientnet_lite0": ("FD", "↓"),
    "sfid": ("sFID", "↓"),
    "sfd_efficientnet_lite0": ("sFD", "↓"),
    "is": ("Inception score", "↑"),
    "is_efficientnet_lite0": ("Inception score (EfficientNet-Lite0)", "↑"),
    "kid": ("KID", "↓"),
    "precision": ("Precision", "↑"),
    "recall": ("Recall", "↑"),
}
"""Short name and better direction of each metric; one that is not here is shown under its own name."""

METRIC_LABELS = {
    "fd_efficientnet_lite0": "Fréchet distance (EfficientNet-Lite0)",
    "fid": "FID",
    "kid": "Kernel distance",
}
"""Full names of those that speed-ups are computed on."""


def name_of(metric: str) -> str:
    """Short name with the arrow of the better direction."""
    return " ".join(METRICS.get(metric, (metric,))).strip()


def in_order(rows: Iterable[Iterable[str]]) -> list[str]:
    """Names in any of the rows, in the order of METRICS, then those it does not know."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    known = list(METRICS)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))
