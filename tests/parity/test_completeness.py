"""No value of a fixture goes uncompared: a key that no test reads would be a promise that nobody checks."""

import importlib
import re
from pathlib import Path

from tests.fixtures import COMPARED, fixture_keys

INPUTS = re.compile(r"model/.*|.*/(noise|x_T)")
# Compared together with the key beside them: the velocity with x_t, the parts of a reverse step with its mean, the
# input with its loss.
BESIDE = re.compile(r"ut/\w+|p_mean_variance/.*/\w+|\w+/model_input")


def test_every_key_is_compared():
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"tests.parity.{path.stem}")
    assert COMPARED
    for name, patterns in COMPARED.items():
        for key in fixture_keys(name):
            if "/" in key and not INPUTS.fullmatch(key) and not BESIDE.fullmatch(key):
                assert any(re.fullmatch(pattern, key) for pattern in patterns), f"{name}: {key}"
