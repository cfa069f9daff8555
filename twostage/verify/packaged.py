"""The published studies that come with the package. Nothing here needs a library: help names them."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "published"
SUFFIX = ".json.gz"


def packaged_studies() -> dict[str, Path]:
    """Reports that come with the package, by name."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}
