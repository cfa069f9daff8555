"""Settings of the module of stage 1: their order, and what became of old names."""

import inspect
import re

import pytest

from eqvae.caching import LatentCaching
from eqvae.module import AutoencoderModule
from eqvae.training.cli import TrainCLI

CONFIG = "configs/eqvae/tiny-shapes.yaml"


@pytest.mark.parametrize("documented", [AutoencoderModule, LatentCaching])
def test_arguments_stand_in_the_order_of_the_docstring(documented):
    described = inspect.getdoc(documented).split("Args:")[1]
    names = re.findall(r"^    (\w+): ", described, re.MULTILINE)
    assert names == list(inspect.signature(documented).parameters)


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("cache_folder", "x", "cache.folder"),
        ("cache_validation", "false", "cache.validation"),
        ("cache_dtype", "float32", "cache.dtype"),
        ("cache_content", "sample", "cache.content"),
        ("encoding_precision", "bfloat16", "cache.encoding_precision"),
    ],
)
def test_an_old_key_names_the_new_one_which_works(old, value, new):
    with pytest.raises(ValueError, match=rf"^model\.init_args\.{old} is {re.escape(new)} now$"):
        TrainCLI(["--config", CONFIG, f"--model.init_args.{old}={value}"], run=False)
    module = TrainCLI(["--config", CONFIG, f"--model.init_args.{new}={value}"], run=False).model
    default = getattr(LatentCaching(), new.split(".")[1])
    assert getattr(module.cache, new.split(".")[1]) != default
