"""The search over start autoencoders: its table, its runs that continue, and what it measures."""

import contextlib
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from eqvae.autoencoders import load_autoencoder
from eqvae.data import ScenesSource, ShapesSource, to_float
from eqvae.equivariance import equivariance_errors
from studies import start_search as search
from studies.linear_starts import LinearEncoder, measure_linear
from studies.start_measures import basis_errors, basis_of, mean_of, measure_start, thumbnail_share, transformed_pairs
from studies.start_report import to_markdown
from studies.start_search import candidate_config, read_results, read_table, run_table
from tests.families import tiny
from tests.tiny import TINY_AUTOENCODER
from twostage.cli import train

TINY = {
    "trainer.max_steps": 2,
    "trainer.limit_val_batches": 0,
    "trainer.logger": False,
    "trainer.enable_progress_bar": False,
    "trainer.callbacks.1.init_args.every_n_train_steps": 1,
    "model.init_args.autoencoder": TINY_AUTOENCODER,
    "model.init_args.num_normalization_images": 8,
    "data.init_args.train.init_args": {"num_images": 16, "image_size": 16},
    "data.init_args.global_batch_size": 4,
}


def images(count: int, side: int = 32) -> torch.Tensor:
    return to_float(ScenesSource(count, side, seed=1).images)


class Mixed:
    """An autoencoder whose latents are an affine map of another one's."""

    def __init__(self, autoencoder, matrix: torch.Tensor, offset: torch.Tensor):
        self.autoencoder, self.matrix, self.offset = autoencoder, matrix, offset

    def posterior(self, batch):
        mean = self.autoencoder.posterior(batch).mean
        return SimpleNamespace(mean=torch.einsum("kc,nchw->nkhw", self.matrix, mean) + self.offset[:, None, None])


def errors(autoencoder, batch, basis: str) -> list[float]:
    latents = autoencoder.posterior(batch).mean
    pairs = transformed_pairs(autoencoder, batch, latents, batch_size=16)
    return list(basis_errors(pairs, *basis_of(latents, basis)).values())


def test_raw_errors_are_the_papers():
    autoencoder, batch = load_autoencoder("shapes-f4c8").freeze(), images(24)
    expected = equivariance_errors(autoencoder, batch)["latent"]
    assert errors(autoencoder, batch, "raw") == pytest.approx([float(value.mean()) for value in expected.values()])


@pytest.mark.parametrize(("basis", "kind"), [("centred", "offset"), ("standardized", "diagonal"), ("whitened", "any")])
def test_each_basis_forgets_what_it_should(basis, kind):
    autoencoder, batch = load_autoencoder("shapes-f4c8").freeze(), images(24)
    generator = torch.Generator().manual_seed(0)
    matrix = {"offset": torch.eye(8), "diagonal": torch.diag(torch.rand(8, generator=generator) + 0.2)}.get(kind)
    if matrix is None:
        matrix = torch.randn(8, 8, generator=generator)
    mixed = Mixed(autoencoder, matrix, 3 * torch.randn(8, generator=generator))
    before = errors(autoencoder, batch, basis)
    # float32 latents of which a whitening divides small differences: three digits
    assert errors(mixed, batch, basis) == pytest.approx(before, rel=2e-3)
    assert errors(mixed, batch, "raw") != pytest.approx(errors(autoencoder, batch, "raw"), rel=2e-2)


def test_thumbnails_explain_themselves_and_no_noise():
    batch = images(40)
    thumbnails = F.interpolate(batch, (8, 8), mode="area")
    noise = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert thumbnail_share(thumbnails, batch)["centred"] == pytest.approx(1, abs=1e-6)
    assert thumbnail_share(noise, batch)["centred"] == pytest.approx(0, abs=0.01)
    both = torch.cat([thumbnails, 10 * thumbnails.std() * noise], 1)
    share = thumbnail_share(both, batch)
    assert share["standardized"] == pytest.approx(0.75, abs=0.01)  # three channels of four
    assert share["centred"] < 0.1


def test_everything_is_measured():
    report = measure_start(load_autoencoder("shapes-f4c8").freeze(), to_float(ShapesSource(24, 32).images), 16)
    json.dumps(report)
    assert report["rotation"] == pytest.approx(mean_of(report["errors"]["raw"], "rotation"))
    assert report["latent_shape"] == [8, 8, 8]
    assert len(report["channel_variance"]) == 8
    assert report["psnr"] > 30


def test_the_use_of_a_codebook_is_measured():
    autoencoder = tiny("VQModel").freeze()
    report, codes = measure_start(autoencoder, to_float(ShapesSource(24, 32).images), 16), autoencoder.num_codes
    assert 1 <= report["perplexity"] <= codes * report["used_codes"] <= codes
    assert report["used_codes"] * codes == pytest.approx(round(report["used_codes"] * codes))


def test_linear_encoders_are_principal_components():
    batch = images(60)
    encoder = LinearEncoder(batch, 4, 48, exponent=0.0)
    assert encoder.lost == pytest.approx(0, abs=1e-9)
    energy = (F.unfold(batch, 4, stride=4) - encoder.mean[:, None]).square().sum()
    assert float(encoder.posterior(batch).mean.square().sum()) == pytest.approx(float(energy), rel=1e-4)
    white = LinearEncoder(batch, 4, 8, exponent=1.0).posterior(batch).mean.movedim(1, 0).flatten(1)
    assert torch.cov(white, correction=0) == pytest.approx(torch.eye(8), abs=1e-3)


def test_even_variances_make_linear_latents_less_equivariant():
    report = measure_linear(images(60), 4, 8)["errors"]
    for kind in ("rotation", "scale"):
        assert report["0"][kind] < report["0.5"][kind] < report["1"][kind]


def write_table(folder, candidates: str, **settings) -> dict:
    base = {"config": "configs/eqvae/tiny-shapes-start.yaml", "held_out": "scenes:12:1", "image_size": 16}
    text = f"output: {folder}\nset: {json.dumps(TINY | settings)}\nbases: {json.dumps({'tiny': base})}\ncandidates:\n"
    (folder / "table.yaml").write_text(text + candidates)
    return read_table(str(folder / "table.yaml"))


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs `train.py` without the seconds that a new process needs for its imports."""

    def run(command, stdout, stderr):
        monkeypatch.setattr(sys, "argv", command[1:])
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stdout):
            try:
                train.main()
            except SystemExit as stop:
                return SimpleNamespace(returncode=stop.code)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("studies.start_search.subprocess.run", run)


@pytest.mark.usefixtures("in_this_process")
def test_a_search_continues_where_it_stopped(tmp_path, capsys):
    candidates = """
  - {name: first, base: tiny, factor: reference}
  - {name: broken, base: tiny, factor: channels, set: {model.init_args.autoencoder.latent_channels: -1}}
  - {name: tuned, base: tiny, factor: treatment, start: first, set: {trainer.max_steps: 1}}
"""
    run_table(write_table(tmp_path, candidates), tmp_path)
    lines = read_results(tmp_path / "results.jsonl")
    assert [line["name"] for line in lines] == ["first", "broken", "tuned"]
    assert "latent_channels is -1" in lines[1]["failed"]
    assert lines[0]["rotation"] > 0
    assert lines[2]["start"] == "first"
    table = to_markdown(lines)
    assert table.count("\n") == 5
    assert "failed: error" in table
    kept = (tmp_path / "results.jsonl").read_text()
    assert "first" in capsys.readouterr().out
    run_table(write_table(tmp_path, candidates), tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == kept
    assert "first" not in capsys.readouterr().out, "a finished candidate was run again"
    (tmp_path / "results.jsonl").unlink()  # as of a search that was killed while it measured
    with pytest.raises(ValueError, match="first was begun with other settings"):
        run_table(write_table(tmp_path, candidates, **{"trainer.max_steps": 3}), tmp_path)
    (tmp_path / "results.jsonl").write_text(kept)
    with pytest.raises(ValueError, match="first was run with other settings"):
        run_table(write_table(tmp_path, candidates, **{"trainer.max_steps": 3}), tmp_path)


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(tmp_path, monkeypatch, in_this_process):
    table, commands = write_table(tmp_path, "  - {name: first, base: tiny, factor: reference}\n"), []
    run = search.subprocess.run

    def killed_at_its_end(command, **streams):
        commands.append(command)
        run(command, **streams)
        shutil.rmtree(tmp_path / "first" / "autoencoder")
        return SimpleNamespace(returncode=-9)

    monkeypatch.setattr("studies.start_search.subprocess.run", killed_at_its_end)
    with pytest.raises(SystemExit, match="stopped by signal 9: run the same command to go on"):
        run_table(table, tmp_path)
    monkeypatch.setattr(
        "studies.start_search.subprocess.run", lambda *words, **rest: commands.append(*words) or run(*words, **rest)
    )
    run_table(table, tmp_path)
    assert "--ckpt_path" not in commands[0]
    assert commands[1][-1] == str(tmp_path / "first" / "checkpoints" / "last.ckpt")
    assert "failed" not in read_results(tmp_path / "results.jsonl")[0]


def test_settings_lie_on_each_other(tmp_path):
    table = write_table(tmp_path, "  - {name: a, base: tiny, set: {trainer.max_steps: 7}}\n")
    config = candidate_config(table, table["candidates"][0], tmp_path)
    assert config.trainer.max_steps == 7
    assert config.data.init_args.global_batch_size == 4
    assert config.trainer.default_root_dir == str(tmp_path / "a")


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ("  - {name: a, base: other}\n", "a has no base: use one of tiny"),
        ("  - {name: a, base: tiny}\n  - {name: a, base: tiny}\n", "different names, got 'a' 2 times"),
        ("  - {name: a, base: tiny, sets: {}}\n", "unknown keys"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, candidates, message):
    with pytest.raises(ValueError, match=message):
        write_table(tmp_path, candidates)
