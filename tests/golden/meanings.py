"""What each recipe means: a hash of all that it and its bases set, kept in `meanings.json`.

An edited base changes every recipe on it. Compare `--print_config` before and after, of those that
`test_no_recipe_has_changed_its_meaning` names, then record by `python -m tests.golden.meanings`.
"""

import hashlib
import json
from pathlib import Path

from omegaconf import OmegaConf

from eqvae.bases import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
RECORDED = Path(__file__).with_name("meanings.json")


def meanings() -> dict[str, str]:
    """Half a sha256 of each recipe's keys and values, bases included."""
    paths = sorted([*CONFIGS.glob("eqvae/*.yaml"), *CONFIGS.glob("dit/*.yaml")])
    return {path.stem: _hash(OmegaConf.to_container(load_config(path))) for path in paths}


def _hash(config: dict) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:32]


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(meanings(), indent=1) + "\n")
