"""Caches are encoded in the precision that they record, whatever the trainer's is."""

import json

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from safetensors.torch import load

from eqvae import precision as precisions
from eqvae.hashes import read_json, write_json
from eqvae.precision import choose_precision, encoding, float32_products
from tests.tiny import needs_bfloat16, stage_one, stage_two

SMALL = {"data.init_args.train.init_args.num_images": 12, "model.init_args.cache.dtype": "float32"}


def predict(folder, **overrides):
    cli = stage_one(folder, SMALL | overrides)
    cli.trainer.predict(cli.model, cli.datamodule, return_predictions=False)
    return {path.name: path.read_bytes() for path in (folder / "latents").iterdir() if path.suffix != ".lock"}


def manifest(folder) -> dict:
    return json.loads((folder / "latents" / "manifest.json").read_text())


def means(content: dict) -> torch.Tensor:
    return load(content["shard-00000.safetensors"])["mean"]


def test_the_trainers_precision_changes_no_byte_of_a_cache(tmp_path):
    full = predict(tmp_path / "full", **{"trainer.precision": "32-true"})
    mixed = predict(tmp_path / "mixed", **{"trainer.precision": "bf16-mixed"})
    assert full == mixed
    assert manifest(tmp_path / "full")["encoding_precision"] == "float32"


@needs_bfloat16
def test_another_encoding_precision_is_recorded_and_never_mixed(tmp_path):
    full = predict(tmp_path / "full")
    fast = predict(tmp_path / "fast", **{"model.init_args.cache.encoding_precision": "bfloat16"})
    assert manifest(tmp_path / "fast")["encoding_precision"] == "bfloat16"
    difference = (means(fast) - means(full)).norm() / means(full).norm()
    assert 2**-10 < difference < 2**-3, "bfloat16 keeps 8 bits"
    with pytest.raises(ValueError, match="holds a cache with another encoding_precision: remove it"):
        predict(tmp_path / "fast")
    (tmp_path / "fast/latents/manifest.json").unlink()  # stopped before its end
    with pytest.raises(ValueError, match="holds a cache with another encoding_precision: remove it"):
        predict(tmp_path / "fast")


def test_a_cache_that_does_not_tell_its_precision_is_not_gone_on_with(tmp_path):
    predict(tmp_path)
    journal = tmp_path / "latents" / ".journal.json"
    recorded = read_json(journal)
    del recorded["identity"]["encoding_precision"]
    write_json(journal, recorded)
    (tmp_path / "latents" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="encoding_precision is missing"):
        predict(tmp_path)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_precisions_that_round_weights_and_images_are_refused(tmp_path, precision):
    with pytest.raises(ValueError, match=rf"^trainer.precision {precision}: use 32-true or bf16-mixed"):
        predict(tmp_path, **{"trainer.precision": precision})
    assert not (tmp_path / "latents").exists()


def switches() -> list[str]:
    backends = torch.backends
    units = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return [unit.fp32_precision for unit in units]


@pytest.fixture
def reduced_products():
    """What a script for a large GPU sets; undone afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_float32_is_without_tf32_and_without_autocast(reduced_products):
    before = switches()
    assert {"tf32", "bf16"} <= set(before)
    with torch.autocast("cpu", torch.bfloat16), encoding("float32", torch.device("cpu")):
        assert switches() == ["ieee"] * 4
        assert not torch.is_autocast_enabled("cpu")
    assert switches() == before
    with pytest.raises(ZeroDivisionError), encoding("float32", torch.device("cpu")):
        _ = 1 / 0
    assert switches() == before, "also after an error"


def test_bfloat16_is_autocast_and_leaves_the_switches(reduced_products):
    before = switches()
    with encoding("bfloat16", torch.device("cpu")):
        assert switches() == before
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="encoding_precision 'half' is unknown: use one of float32, bfloat16"):
        encoding("half", torch.device("cpu")).__enter__()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_float32_convolutions_on_a_cuda_device(reduced_products):
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1)
    images = torch.randn(4, 64, 64, 64)
    exact = convolution.double()(images.double())
    convolution.float().cuda()
    with encoding("float32", torch.device("cuda")), torch.no_grad():
        error = (convolution(images.cuda()).cpu() - exact).norm() / exact.norm()
    # 576 products summed in float32: sqrt(576) / 2 roundings of 6e-8 would be 7e-7; TF32's 5e-4 is far above.
    assert error < 2e-6


def with_speeds(monkeypatch, in_float32: float, in_bfloat16: float) -> None:
    """Operations a second that a product of matrices is found to reach."""
    speeds = {False: in_float32, True: in_bfloat16}
    monkeypatch.setattr(precisions, "matmul_flops", lambda device: speeds[torch.is_autocast_enabled(device.type)])


@pytest.mark.parametrize(("in_bfloat16", "chosen"), [(7e11, "bfloat16"), (1.4e11, "float32"), (6e10, "float32")])
def test_bfloat16_is_chosen_where_it_is_much_faster(in_bfloat16, chosen, monkeypatch):
    with_speeds(monkeypatch, 1e11, in_bfloat16)
    found, reason = choose_precision(torch.device("cpu"))
    assert found == chosen
    assert reason == (
        f"precision {chosen}: products of matrices run at 100 GFLOP/s in float32 and {in_bfloat16 / 1e9:,.0f} GFLOP/s "
        "in bfloat16 on this cpu device"
    )


def test_the_choice_is_that_of_the_clock():
    assert choose_precision(torch.device("cpu"))[0] in precisions.ENCODING_PRECISIONS


@pytest.mark.parametrize(("in_bfloat16", "chosen"), [(7e11, "bf16-mixed"), (6e10, "32-true")])
def test_a_trainers_precision_may_be_chosen_here_and_is_kept_in_its_config(in_bfloat16, chosen, monkeypatch, tmp_path):
    with_speeds(monkeypatch, 1e11, in_bfloat16)
    cli = stage_one(tmp_path, {"trainer.precision": "auto", "trainer.accelerator": "cpu"})
    assert cli.trainer.precision == chosen
    assert cli.config_dump["trainer"]["precision"] == chosen


GPU = torch.device("cuda", 0)


def products() -> str:
    return torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize("asked", ["high", "highest"])
@pytest.mark.parametrize("before", ["high", "highest"])
def test_float32_products_hold_inside_and_no_longer(asked, before):
    torch.set_float32_matmul_precision(before)
    try:
        with float32_products(asked, GPU):
            assert torch.get_float32_matmul_precision() == asked
            assert (products() == "tf32") == torch.backends.cuda.matmul.allow_tf32 == (asked == "high")
        assert torch.get_float32_matmul_precision() == before
        with float32_products(asked, torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("asked", "kept"), [("high", "tf32"), ("highest", "ieee")])
def test_float32_convolutions_are_those_of_the_products(asked, kept):
    """torch's own default has TF32 in convolutions alone, of which an autoencoder consists."""
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    with float32_products(asked, GPU):
        assert convolutions.fp32_precision == kept
        assert torch.backends.cudnn.allow_tf32 == (kept == "tf32")  # Inductor asks so, and it raises where they differ
    assert convolutions.fp32_precision == before
    assert torch.backends.cudnn.allow_tf32


def test_encoding_gives_back_what_a_notebook_has_set():
    """Lightning asks for it by the old name, which raises where old and new names differ."""
    torch.set_float32_matmul_precision("medium")
    try:
        with encoding("float32", torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_encoding_in_float32_has_no_tf32_under_either_of_torchs_names():
    """Asking by the other name raises where the two disagree, as Inductor and Lightning do."""
    with float32_products("high", GPU):
        with encoding("float32", GPU):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
            assert products() == "ieee"
        assert (torch.get_float32_matmul_precision(), products()) == ("high", "tf32")


def test_a_trainer_sets_float32_products_while_it_trains(cache, tmp_path, monkeypatch):
    """A processor that is taken for a GPU: what is set there changes nothing on it."""
    monkeypatch.setattr("eqvae.training.cli.float32_products", lambda asked, _: float32_products(asked, GPU))
    settings = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "trainer.float32_matmul_precision": "high"}
    found, cli = [], stage_two(tmp_path, cache, settings)
    cli.trainer.callbacks.append(LambdaCallback(on_train_batch_end=lambda *_: found.append(products())))
    cli.trainer.fit(cli.model, cli.datamodule)
    assert found == ["tf32"]
    assert products() != "tf32"


def test_another_kind_of_float32_product_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"float32_matmul_precision.*highest.*high"):
        stage_one(tmp_path, {"trainer.float32_matmul_precision": "medium"})
