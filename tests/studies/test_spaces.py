"""The sweep of many latent spaces is the one that its script writes, and every space trains from random weights."""

from pathlib import Path

from studies import spaces
from twostage import load_sweep, plan
from twostage.configs import value_at

FILE = Path(__file__).parents[2] / "studies/spaces.yaml"


def test_the_file_is_what_the_script_writes():
    assert FILE.read_text() == spaces.text()


def test_there_are_48_spaces_or_more_in_families_of_equal_size():
    shapes = {shape.name: shape for shape in spaces.SHAPES}
    arms = spaces.sweep()["autoencoders"]
    assert len(arms) == len(shapes) * len(spaces.LOSSES) >= 48
    assert shapes["f4c8"].compression == 6


def test_each_space_begins_with_random_weights_of_its_seed(monkeypatch):
    monkeypatch.chdir(FILE.parents[1])
    sweep = load_sweep(FILE, [])
    few = {name: sweep.autoencoders[name] for name in ("f4c8-plain", "f8c16-spectrum")}
    sweep.autoencoders = few
    planned = plan(sweep, [1])
    assert planned.start is None
    plain, spectrum = (planned.branch(name, 1).training for name in few)
    assert (plain.inputs, spectrum.inputs) == ({}, {})
    built = value_at(spectrum.settings["config"], "model.init_args.autoencoder")
    assert (built["latent_channels"], built["block_out_channels"]) == (16, [16, 32, 32, 32])
    assert value_at(plain.settings["config"], "seed_everything") == 1
    assert plain.address != plan(sweep, [0]).branch("f4c8-plain", 0).training.address
