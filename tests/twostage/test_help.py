"""Help is there at once: what may be typed is known without the libraries that do it, and names what there is."""

import json
import re
import subprocess
import sys

import pytest

from dit.alignment import ENCODERS
from dit.samplers import SAMPLERS
from dit.samplers.masked import KNOWN
from dit.samplers.own_settings import OWN_SETTINGS, SCHEDULES
from dit.samplers.sampler import NoSettings
from eqvae.evaluation import EXTRACTORS
from eqvae.evaluation.distances import SCORE_ORDERS
from eqvae.evaluation.generation import GENERATION_METRICS
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.losses.perceptual import PERCEPTUAL_NAMES
from eqvae.packaged import SWEEPS, TRAINING, find_config
from twostage.cli import choices, sweep, train, verify
from twostage.verify import find_study

COMMANDS = ("train", "sample", "evaluate", "sweep", "compare", "verify", "export", "view")
ASK = """
import contextlib, importlib, io, json, sys
words = json.loads(sys.argv[1])
sys.argv = words
printed, errors = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
    try:
        importlib.import_module(f"twostage.cli.{words[0].removesuffix('.py')}").main()
    except SystemExit as stop:
        code = stop.code
heavy = [name for name in ("torch", "lightning", "diffusers", "numpy", "jsonargparse") if name in sys.modules]
print(json.dumps({"code": code, "printed": printed.getvalue(), "errors": errors.getvalue(), "heavy": heavy}))
"""


def ask(*words: str) -> dict:
    """What a command of a process of its own answers."""
    done = subprocess.run([sys.executable, "-c", ASK, json.dumps(words)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_library(command):
    answer = ask(f"{command}.py", "--help")
    assert answer["code"] == 0
    assert answer["heavy"] == []
    assert answer["printed"].startswith(f"usage: {command}.py")
    assert "xample" in answer["printed"], "one to start from"
    wide = [line for line in answer["printed"].splitlines() if len(line) > 120]
    assert not wide


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("train.py", "fitt"), "command: fitt is none of fit, validate, test, predict: did you mean fit?"),
        (("train.py",), "give one of fit, validate, test, predict"),
        (("evaluate.py",), "give one of reconstruction, latents, generation, alignment, images"),
        (("sample.py", "--checkpoint", "a", "--chekpoint", "b"), "--chekpoint is unknown: did you mean --checkpoint?"),
        (("sweep.py", "--config"), "--config needs a value; one that begins with a minus is written --config=VALUE"),
        (("compare.py", "a", "--image-size", "x"), "--image-size: 'x' is no whole number: give one"),
    ],
)
def test_a_mistyped_word_is_answered_as_fast(words, error):
    answer = ask(*words)
    assert (answer["code"], answer["errors"], answer["heavy"]) == (1, f"error: {error}\n", [])


@pytest.mark.parametrize(
    ("offered", "known"),
    [
        (choices.ENCODERS, ENCODERS),
        (choices.EXTRACTORS, EXTRACTORS),
        (choices.PERCEPTUAL_DISTANCES, PERCEPTUAL_NAMES),
        (choices.PREDICTORS, PREDICTORS),
        (choices.GENERATION_METRICS, tuple(GENERATION_METRICS)),
        (choices.SCORE_ORDERS, SCORE_ORDERS),
        (SCHEDULES, KNOWN),
    ],
)
def test_what_options_offer_is_what_there_is(offered, known):
    assert tuple(offered) == tuple(known)


def test_every_sampler_is_offered_with_its_settings():
    named = {name: kind for kind in OWN_SETTINGS for name in kind.samplers}
    assert named == {name: sampler.settings for name, sampler in SAMPLERS.items() if sampler.settings is not NoSettings}


def test_the_examples_name_what_comes_with_the_package():
    for module, folders in ((train, TRAINING), (sweep, SWEEPS)):
        names = re.findall(r"--config (\S+)", module.__doc__)
        assert names
        for name in names:
            assert find_config(name, folders).is_file(), name
    assert find_study(re.search(r"Example: (\S+)", verify.__doc__)[1]).is_file()
