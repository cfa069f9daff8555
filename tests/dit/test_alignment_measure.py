"""CKNNA against its formula, alignment block by block, and the command on trained and public checkpoints."""

import json
import sys

import numpy as np
import pytest
import torch

from dit.alignment import Alignment, Encoder, cosine_alignment, tokens_after
from dit.alignment.cknna import cknna
from dit.alignment.measure import measure_alignment, noisy_latents
from dit.alignment.projectors import TrainedProjector, load_projector
from dit.backbones import DiT, SiT
from dit.objectives import Diffusion, Flow
from eqvae.data import ShapesSource
from eqvae.data.module import ImageBatches
from eqvae.evaluation.tables import save_result
from eqvae.stream import SequentialBatches
from tests.dit.tiny import randomize, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from tests.tiny import stage_two
from twostage.cli import evaluate


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_the_formula(first, second, k):
    """Sums over pairs, one at a time."""
    kernels, near = [], []
    for rows in (first.double().numpy(), second.double().numpy()):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        kernel = rows @ rows.T
        kernels.append(kernel - kernel.mean(axis=1, keepdims=True))
        near.append(
            [set(sorted(set(range(len(rows))) - {i}, key=lambda j, i=i: -kernel[i, j])[:k]) for i in range(len(rows))]
        )

    def align(a, b):
        return sum(kernels[a][i, j] * kernels[b][i, j] for i in range(len(first)) for j in near[a][i] & near[b][i])

    return align(0, 1) / (align(0, 0) * align(1, 1)) ** 0.5


def test_cknna_is_the_formula():
    first = normal(40, 6)
    second = first @ normal(6, 9, seed=1) + normal(40, 9, seed=2)
    value = cknna(first, second, 5)
    assert 0.1 < value < 0.9
    assert value == pytest.approx(by_the_formula(first, second, 5), rel=1e-10)
    assert value == pytest.approx(cknna(second, first, 5), rel=1e-10)


def test_cknna_of_the_same_the_turned_and_the_unrelated():
    first, other = normal(500, 32), normal(500, 48, seed=1)
    rotation = torch.linalg.qr(normal(32, 32, seed=2).double())[0]
    assert cknna(first, first) == pytest.approx(1)
    assert cknna(first, first.double() @ rotation * 7) == pytest.approx(1)
    assert 0 <= cknna(first, other) < 0.05  # k / N = 0.02
    mixed = first @ normal(32, 48, seed=3) + 5 * other
    assert cknna(first.double() @ rotation, 0.1 * mixed) == pytest.approx(cknna(first, mixed), rel=1e-6)


def test_cknna_of_equal_rows_is_refused():
    """It was 0 / 0, or rounding over rounding, and NaN went into the file of `evaluate.py alignment`."""
    rows = torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).repeat(30, 1)
    for pair in ((rows, rows), (rows, torch.eye(30)), (torch.eye(30), rows)):
        with pytest.raises(ValueError, match="CKNNA of rows that are all the same: give images that differ"):
            cknna(*pair)
    with pytest.raises(ValueError, match=r"a\.json is not written: cknna is nan"):
        save_result("a.json", {"levels": [{"time": 0.5, "cknna": [1.0, float("nan")]}]})


def test_cknna_falls_with_noise():
    first = normal(300, 16)
    values = [cknna(first, first + share * normal(300, 16, seed=1)) for share in (0.0, 0.3, 1.0, 3.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.5


def test_cknna_refuses_too_few():
    with pytest.raises(ValueError, match=r"CKNNA of 10 and 10 rows: .* more than 10 neighbours"):
        cknna(normal(10, 3), normal(10, 3), 10)


def test_noise_levels():
    latents, noise = normal(2, 4, 4, 4), normal(2, 4, 4, 4, seed=1)
    x, t = noisy_latents(Flow(), latents, noise, 1.0)
    assert torch.equal(x, latents)
    assert t.tolist() == [1, 1]
    assert noisy_latents(Flow(path="gvp", prediction="noise"), latents, noise, 1.0)[1][0] < 1
    assert noisy_latents(Diffusion(), latents, noise, 1.0)[1].tolist() == [0, 0]
    x, t = noisy_latents(Diffusion(), latents, noise, 0.0)
    assert t.tolist() == [999, 999]
    torch.testing.assert_close(x, noise, rtol=0.1, atol=0.05)


class BlockOfItself:
    """An encoder that gives the clean tokens of one block of a generator."""

    def __init__(self, generator, autoencoder, depth):
        self.generator, self.autoencoder, self.depth = generator, autoencoder, depth
        self.name, self.width = "itself", generator.backbone.config["hidden_size"]

    def __call__(self, images, grid):
        latents = self.generator.spec.normalization.normalize(self.autoencoder.encode(images).mean)
        null = torch.full((len(images),), self.generator.num_classes)
        with tokens_after(self.generator.backbone, [self.depth]) as tokens:
            self.generator.backbone(*noisy_latents(self.generator.objective, latents, torch.zeros(()), 1.0), null)
        return tokens[self.depth]


@pytest.fixture(scope="module")
def autoencoder():
    return tiny_autoencoder(factor=8).freeze()


def random_images(count=60, batch_size=25):
    return SequentialBatches(ImageBatches(ShapesSource(count, 32)), batch_size).loader()


@pytest.mark.parametrize("depth", [1, 3])
def test_a_block_is_aligned_with_itself(autoencoder, depth):
    generator = tiny_generator(SiT, autoencoder, depth=4)
    encoder = BlockOfItself(generator, autoencoder, depth)
    identity = TrainedProjector(torch.nn.Sequential(torch.nn.Linear(16, 16)), depth, None)
    torch.nn.init.eye_(identity.network[0].weight)
    torch.nn.init.zeros_(identity.network[0].bias)
    report = measure_alignment(generator, autoencoder, encoder, random_images(), identity, (1.0, 0.5, 0.0))
    clean, half, noise = report["levels"]
    assert clean["cknna"][depth - 1] == pytest.approx(1, abs=1e-5)
    assert clean["cosine"] == pytest.approx(1, abs=1e-5)
    assert int(np.argmax(clean["cknna"])) == depth - 1
    assert clean["cknna"][depth - 1] > half["cknna"][depth - 1] + 0.1
    assert noise["cknna"][depth - 1] == pytest.approx(10 / 60, abs=0.1)  # unrelated: k / N
    assert clean["cosine"] > max(half["cosine"], noise["cosine"])
    assert report["num_images"] == 60
    other = measure_alignment(generator, autoencoder, encoder, random_images(batch_size=7), identity, (0.5,))["levels"][
        0
    ]
    assert other["cknna"] == pytest.approx(half["cknna"], abs=1e-6)  # noise is keyed by image


def test_labels_of_a_model_without_null_label(autoencoder):
    generator = tiny_generator(SiT, autoencoder, class_dropout_prob=0.0, num_classes=10)
    encoder = Features()
    assert measure_alignment(generator, autoencoder, encoder, random_images())["labels"] == "data"
    few = tiny_generator(SiT, autoencoder, class_dropout_prob=0.0, num_classes=5)
    with pytest.raises(ValueError, match="labels beyond the 5 classes"):
        measure_alignment(few, autoencoder, encoder, random_images())


class Features:
    """The mean colours of a grid, standing for an encoder."""

    name, width = "colours", 3

    def __call__(self, images, grid):
        return torch.nn.functional.adaptive_avg_pool2d(images, grid).flatten(2).transpose(1, 2)


def test_refusals(autoencoder):
    generator = tiny_generator(DiT, autoencoder)
    with pytest.raises(ValueError, match=r"time 1.5 lies outside \[0, 1\]"):
        measure_alignment(generator, autoencoder, Features(), random_images(), times=[1.5])
    projector = TrainedProjector(torch.nn.Sequential(torch.nn.Linear(16, 8)), 1, None)
    with pytest.raises(ValueError, match="projector makes 8 channels, encoder colours has 3"):
        measure_alignment(generator, autoencoder, Features(), random_images(), projector)
    far = TrainedProjector(projector.network, 9, None)
    with pytest.raises(ValueError, match="projector depth 9: the backbone has 2"):
        measure_alignment(generator, autoencoder, Features(), random_images(), far)


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "alignment", "--device", "cpu", *map(str, words)])
    evaluate.main()


def test_the_command_measures_an_aligned_run(cache, tmp_path, monkeypatch, capsys):
    aligned = {"encoder.name": "efficientnet_lite0", "depth": 2, "projector_width": 8}
    settings = {f"model.init_args.alignment.{key}": value for key, value in aligned.items()}
    settings |= {
        "model.init_args.backbone.init_args.depth": 3,
        "data.init_args.images": "eqvae.data.ShapesSource",
        "data.init_args.images.init_args.num_images": 48,
    }
    cli = stage_two(tmp_path, cache, settings)
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "run.ckpt")
    projector = load_projector(tmp_path / "run.ckpt")
    assert (projector.depth, projector.encoder, projector.width) == (2, "efficientnet_lite0", 1280)
    for key, value in projector.network.state_dict().items():
        assert torch.equal(value, cli.model.projector.state_dict()[key])
    words = ["--checkpoint", tmp_path / "run.ckpt", "--data", "shapes:30:1", "--times", "0.5", "1"]
    files = ["--output", tmp_path / "alignment.json", "--figure", tmp_path / "alignment.png"]
    command(monkeypatch, *words, *files, "--neighbours", 5)
    report = json.loads((tmp_path / "alignment.json").read_text())
    assert [level["time"] for level in report["levels"]] == [0.5, 1]
    assert all(len(level["cknna"]) == 3 and all(0 <= v <= 1 for v in level["cknna"]) for level in report["levels"])
    assert (report["projector_depth"], report["num_images"], report["labels"]) == (2, 30, "null")
    assert report["images"] == "all 30"
    assert -1 <= report["levels"][0]["cosine"] <= 1
    assert report["encoder_fingerprint"] == Encoder("efficientnet_lite0").fingerprint(4)
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")
    assert "CKNNA, t = 0.5" in capsys.readouterr().out
    with pytest.raises(ValueError, match="was aligned at depth 2, not 1: leave the depth out"):
        load_projector(tmp_path / "run.ckpt", 1)


def test_a_projector_of_other_layers_is_refused(tmp_path):
    torch.save({"projectors.0.0.weight": torch.ones(3, 16)}, tmp_path / "repa.pt")
    with pytest.raises(ValueError, match=r"repa\.pt: its projector is no three layers of REPA's: 0\.weight"):
        load_projector(tmp_path / "repa.pt", 1)


def test_the_command_measures_a_public_checkpoint(tmp_path, monkeypatch, autoencoder):
    model = randomize(SiT(input_size=4, hidden_size=16, depth=2, num_heads=2, num_classes=3, learn_sigma=False))
    projector = Alignment(Encoder("efficientnet_lite0"), 1, 0.5, 8).create_projector(model, 0)
    weights = {f"projectors.0.{key}": value for key, value in projector.state_dict().items()}
    torch.save({"ema": model.state_dict() | weights}, tmp_path / "repa.pt")
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    words = ["--checkpoint", tmp_path / "repa.pt", "--num-heads", 2, "--data", "shapes:20"]
    words += ["--autoencoder", tmp_path / "autoencoder", "--output", tmp_path / "a.json"]
    command(monkeypatch, *words)
    assert json.loads((tmp_path / "a.json").read_text())["projector_depth"] is None  # the file does not tell
    command(monkeypatch, *words, "--projector-depth", 1)
    report = json.loads((tmp_path / "a.json").read_text())
    loaded = load_projector(tmp_path / "repa.pt", 1).network
    images = next(iter(random_images(20, 20)))["image"]
    assert torch.equal(loaded(normal(2, 16)), projector(normal(2, 16)))
    assert cosine_alignment(loaded(normal(20, 4, 16)), Encoder("efficientnet_lite0")(images, 2)).shape == (20,)
    assert abs(report["levels"][0]["cosine"]) < 0.2  # untrained
