"""Runs of both stages on a device: every tiny recipe in every mode, resumed, sharded, and the commands after them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from eqvae.hashes import read_json
from tests.cuda.devices import CPU, GPU, ON_EACH, on_each, relative_error, trainer_settings
from tests.golden.recipes import RECIPES, Caches, is_stage_one, train_recipe, write_caches
from tests.reliability.runs import TRAINED, fit_on, same
from tests.tiny import needs_bfloat16, stage_one, stage_two
from twostage.cli import evaluate, sample

NUM_STEPS, COMPARED = 20, 3  # later steps of Adam depend on the last bits
MODES: dict[str, dict[str, object]] = {
    "32": {},
    "tf32": {"trainer.float32_matmul_precision": "high"},
    "bf16": {"trainer.precision": "bf16-mixed"},
    "compiled": {"model.init_args.compile": True},
}
TOLERANCES = {"32": 1e-3, "tf32": 5e-3, "bf16": 5e-2, "compiled": 1e-3}  # of losses after up to two steps of Adam
WEIGHTS = 1e-3  # of all after a short run, in other orders of summation
FLOAT16_ROUNDING = 2**-10  # of what a cache holds


@pytest.fixture(scope="module")
def caches(tmp_path_factory) -> Caches:
    return write_caches(tmp_path_factory.mktemp("caches"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory, request):
    """Losses of a recipe on the processor in float32, trained when first asked for."""
    known: dict[str, dict[str, list[float]]] = {}

    def losses(name: str) -> dict[str, list[float]]:
        if name not in known:
            needed = None if is_stage_one(name) else request.getfixturevalue("caches")
            known[name] = train_recipe(name, tmp_path_factory.mktemp(name), needed, COMPARED)
        return known[name]

    return losses


def relative(found: list[float], wanted: list[float]) -> float:
    return relative_error(torch.tensor(found[:COMPARED]), torch.tensor(wanted[:COMPARED]))


@needs_bfloat16
@on_each([f"{name} {mode}" for name in RECIPES for mode in MODES], {"tiny-shapes-start bf16"}.__contains__)
def test_a_recipe_begins_as_on_the_processor(name, device, expected, request, tmp_path, record_property):
    recipe, mode = name.split()
    needed = None if is_stage_one(recipe) else request.getfixturevalue("caches")
    settings = trainer_settings(device) | MODES[mode]
    found = train_recipe(recipe, tmp_path, needed, NUM_STEPS if device != CPU else COMPARED, settings)
    errors = {key: relative(found[key], values) for key, values in expected(recipe).items() if any(values)}
    record_property("error", max(errors.values()))
    record_property("losses", found["train/loss"])
    assert errors["train/loss"] <= TOLERANCES[mode]
    assert np.isfinite(found["train/loss"]).all()


def weights(checkpoint: dict) -> torch.Tensor:
    return torch.cat([value.double().cpu().flatten() for value in checkpoint["state_dict"].values()])


@pytest.mark.gpu
@pytest.mark.parametrize("stage", [1, 2])
def test_a_resumed_run_ends_as_one_that_was_left_alone(stage, cache, tmp_path, record_property):
    """Whether to the last bit is told: on a GPU some sums have no order. On a processor it always is."""
    settings = {key.replace(".", "__"): value for key, value in trainer_settings(GPU).items()}
    whole = fit_on(stage, tmp_path / "whole", cache, trainer__max_steps=4, **settings)
    fit_on(stage, tmp_path / "parts", cache, trainer__max_steps=2, **settings)
    resumed = fit_on(stage, tmp_path / "parts", cache, trainer__max_steps=4, **settings)
    record_property("to the last bit", all(same(resumed[part], whole[part]) for part in TRAINED))
    assert resumed["global_step"] == whole["global_step"] == 4
    assert relative_error(weights(resumed), weights(whole)) <= WEIGHTS


PROCESS_GROUPS = {"fsdp2": "fsdp2", "one process of DDP": "ddp"}


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROCESS_GROUPS)
def test_one_process_of_a_group_trains_as_one_alone(name, cache, tmp_path, record_property):
    """NCCL's first call; a group of several processes needs as many devices."""
    common = trainer_settings(GPU) | {"trainer.limit_val_batches": 0}
    trained = []
    for folder, settings in (("alone", {}), ("group", {"trainer.strategy": PROCESS_GROUPS[name]})):
        cli = stage_two(tmp_path / folder, cache, common | settings)
        cli.trainer.fit(cli.model, cli.datamodule)
        trained.append(torch.load(tmp_path / folder / "checkpoints/last.ckpt", weights_only=True))
        if torch.distributed.is_initialized():
            record_property("backend", torch.distributed.get_backend())
            torch.distributed.destroy_process_group()
    assert relative_error(weights(trained[1]), weights(trained[0])) <= WEIGHTS


def predicted(folder: Path, device: torch.device) -> dict[str, torch.Tensor]:
    cli = stage_one(folder, trainer_settings(device) | {"data.init_args.train.init_args.num_images": 16})
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return load_file(folder / "latents" / "shard-00000.safetensors")


@ON_EACH
def test_a_cache_is_that_of_the_processor(device, tmp_path, record_property):
    expected, found = (
        predicted(tmp_path / where.type / str(index), where) for index, where in enumerate((CPU, device))
    )
    errors = {key: relative_error(found[key], value) for key, value in expected.items()}
    record_property("error", max(errors.values()))
    assert max(errors.values()) <= FLOAT16_ROUNDING


@ON_EACH
def test_samples_and_their_measure_are_those_of_the_processor(device, cache, tmp_path, monkeypatch, record_property):
    """Images of one checkpoint by `sample.py` on both, and what `evaluate.py` says of them."""
    cli = stage_two(tmp_path / "run", cache, {"trainer.max_steps": 2, "trainer.limit_val_batches": 0})
    cli.trainer.fit(cli.model, cli.datamodule)
    pictures = []
    for index, where in enumerate((CPU, device)):
        output = tmp_path / f"samples-{index}"
        words = f"sample --checkpoint {tmp_path}/run/checkpoints/last.ckpt --output {output} --num-images 4 --npz"
        words += f" --num-inference-steps 3 --device {where.type}"
        monkeypatch.setattr(sys, "argv", words.split())
        sample.main()
        pictures.append(np.load(output / "samples.npz")["arr_0"].astype(int))
    difference = np.abs(pictures[1] - pictures[0])
    record_property("values that differ", float((difference > 0).mean()))
    assert difference.max() <= 1, "a last bit may turn the rounding of a pixel, no more"
    measure(tmp_path, device, monkeypatch)


def measure(folder: Path, device: torch.device, monkeypatch) -> None:
    (folder / "real").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "real" / f"{index}.png")
    numbers = []
    for index, where in enumerate((CPU, device)):
        output = folder / f"measured-{index}.json"
        words = f"evaluate generation --generated {folder}/samples-0/samples.npz --reference {folder}/real"
        monkeypatch.setattr(sys, "argv", [*words.split(), "--device", where.type, "--output", str(output)])
        evaluate.main()
        numbers.append(read_json(output))
    found, wanted = (numbers[1]["fd_efficientnet_lite0"], numbers[0]["fd_efficientnet_lite0"])
    assert abs(found - wanted) <= 1e-4 * abs(wanted)
