"""From an autoencoder and images to predictors: what is collected, and the command that prints them."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from eqvae.autoencoders import load_autoencoder
from eqvae.data import FolderSource, ShapesSource, to_uint8
from eqvae.data.images import to_float
from eqvae.equivariance import equivariance_errors
from eqvae.evaluation import create_extractor, images_to_features
from eqvae.evaluation.metrics import find_metric
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.evaluation.predictors.measuring import autoencoder_to_sample, channel_normalization, describe_sample, predict
from eqvae.evaluation.tables import comparison_table, is_better, result_table
from tests.eqvae.test_autoencoders_vq import tiny_vq
from tests.eqvae.tiny import MixingAutoencoder, tiny_autoencoder
from tests.families import stand_ins, tiny
from twostage.cli import evaluate

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")
QUANTITIES = {metric.name for predictor in PREDICTORS.values() for metric in predictor.metrics()}


def test_latents_are_normalized_over_the_set_and_come_back():
    source, autoencoder = ShapesSource(230, 32), tiny_autoencoder()
    sample = autoencoder_to_sample(autoencoder, source)
    images = to_float(source.images)
    posterior = autoencoder.encode(images)
    assert sample.latents.shape == (230, 4, 8, 8)
    torch.testing.assert_close(sample.latents.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(sample.latents.std((0, 2, 3), correction=0), torch.ones(4))
    torch.testing.assert_close(sample.encode(images[:5]), sample.latents[:5], rtol=1e-4, atol=1e-4)
    decoded = sample.decode(sample.latents[:5])
    torch.testing.assert_close(decoded, autoencoder.decode(posterior.mean[:5]), rtol=1e-4, atol=1e-4)
    scale = 1 / posterior.mean.std((0, 2, 3), correction=0)[:, None, None]
    noise = posterior.std.square().mean(0) * scale.square()
    torch.testing.assert_close(sample.noise, noise, rtol=1e-4, atol=0)
    assert float(sample.rate.mean()) == pytest.approx(float(posterior.kl().mean()) / 256, rel=1e-4)
    assert torch.equal(sample.labels, torch.arange(230) % 10)
    features = images_to_features(source.images[:7], create_extractor())
    torch.testing.assert_close(sample.features[:7], features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sample.extract(source.images[:7]), features)


def test_packed_latents_are_measured_where_transforms_act():
    """Of FLUX.2 raw latents are patches of 2 x 2: turning those would leave the order inside them as it was."""
    autoencoder, source = tiny("AutoencoderKLFlux2").freeze(), ShapesSource(24, 32)
    sample = autoencoder_to_sample(autoencoder, source, names=["equivariance", "reconstruction", "interpolation"])
    images = to_float(source.images)
    posterior = autoencoder.posterior(images).mean
    encoded = sample.encode(images)
    assert (encoded.shape, sample.latents.shape) == (posterior.shape, (24, 4 * posterior.shape[1], 8, 8))
    torch.testing.assert_close(encoded.mean((0, 2, 3)), torch.zeros(posterior.shape[1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(encoded.std((0, 2, 3), correction=0), torch.ones(posterior.shape[1]), rtol=1e-3, atol=0)
    for latents in (encoded, sample.latents):  # both name the same images
        torch.testing.assert_close(sample.decode(latents), autoencoder.transformed_decode(posterior).images)
    found = predict(sample, ["equivariance", "interpolation"]).values
    errors = equivariance_errors(autoencoder, images)["latent"]
    assert 0 < found["equivariance/rotation"] < 3
    assert errors


def test_an_autoencoder_of_one_size_is_left_out_of_equivariance_with_the_reason():
    with stand_ins():
        sample = autoencoder_to_sample(tiny("AutoencoderRAE").freeze(), ShapesSource(12, 32), names=["equivariance"])
        assert "this autoencoder resizes them" in predict(sample).left_out["equivariance"]


def test_latents_of_odd_sides_are_left_out_of_equivariance_with_the_reason():
    sample = autoencoder_to_sample(load_autoencoder("shapes-f4c8").freeze(), ShapesSource(12, 36, 1), names=[])
    assert predict(sample).left_out["equivariance"] == "needs latents that can be halved, these have sides of 9 x 9"


def test_features_are_computed_for_those_that_need_them_alone():
    source, autoencoder = ShapesSource(120, 32), tiny_autoencoder()
    lean = autoencoder_to_sample(autoencoder, source, names=["density", "equivariance"])
    assert not lean.has("features")
    assert predict(lean, ["density", "equivariance"]) == predict(
        autoencoder_to_sample(autoencoder, source), ["density", "equivariance"]
    )
    assert autoencoder_to_sample(autoencoder, source, names=["cknna"]).has("features")


def test_rate_is_the_divergence_in_closed_form():
    """Means of 3 and 0 at std 1 and 0.5: 9 / 2, and (0.25 - 1 - log 0.25) / 2 nats."""
    mean = torch.stack((torch.full((4, 4), 3.0), torch.zeros(4, 4)))
    std = torch.stack((torch.ones(4, 4), torch.full((4, 4), 0.5)))

    class Autoencoder(MixingAutoencoder):
        def encode(self, images):
            jitter = 1e-6 * images.mean((1, 2, 3))[:, None, None, None]
            return SimpleNamespace(mean=mean + jitter, std=std.expand(len(images), -1, -1, -1))

        def decode(self, latents):
            return latents.new_zeros(len(latents), 3, 16, 16)

    sample = autoencoder_to_sample(Autoencoder(), ShapesSource(12, 16))
    expected = torch.tensor([4.5, (0.25 - 1 - torch.tensor(0.25).log()) / 2])
    torch.testing.assert_close(sample.rate.float(), expected, rtol=1e-5, atol=1e-5)
    sample.rate = torch.tensor([4.5, 0.001])
    assert PREDICTORS["rate"](sample) == pytest.approx({"rate/nats": 2.2505, "rate/active_share": 0.5})


def test_channels_that_only_rounding_moves_are_silent():
    latents = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2
    latents[:, 1] = 5 + 1e-7 * latents[:, 1]
    shift, scale = channel_normalization(latents)
    assert scale.flatten().tolist() == [pytest.approx(0.5, abs=0.05), 0, pytest.approx(0.5, abs=0.05)]
    assert float(shift[1]) == pytest.approx(5)
    assert channel_normalization(torch.ones(5, 2, 3, 3))[1].flatten().tolist() == [0, 0]


def test_more_images_than_are_measured_are_spread_over_all_classes(monkeypatch):
    monkeypatch.setattr("eqvae.evaluation.predictors.measuring.MAX_IMAGES", 40)
    monkeypatch.setattr("eqvae.evaluation.predictors.measuring.MAX_KEPT_IMAGES", 5)
    source = ShapesSource(400, 16)  # every tenth image is of the same class
    sample = autoencoder_to_sample(MixingAutoencoder(), source)
    assert len(sample.latents) == len(sample.labels) == len(sample.masks) == len(sample.features) == 40
    assert len(sample.images) == 5
    assert len(sample.labels.unique()) > 5
    assert describe_sample(sample, source) == {"predictor_images": "40 of 400, evenly spaced", "foreground": "known"}
    assert len(autoencoder_to_sample(MixingAutoencoder(), source, num_images=12).latents) == 12


def test_masks_are_where_shapes_are():
    source = ShapesSource(20, 64)
    masks = source.masks(torch.arange(20))
    assert masks.shape == (20, 64, 64)
    assert masks.dtype == torch.bool
    discs = masks[::10].sum((1, 2)) / 64**2
    assert ((discs > 3.14 * (0.92 * 0.46 / 2) ** 2 * 0.95) & (discs < 3.14 * (0.92 * 0.7 / 2) ** 2 * 1.05)).all()
    # Shape and ground differ in hue: colours change more across the border than within.
    images = source.images.float()
    inside = (images * masks[:, None]).sum((2, 3)) / masks.sum((1, 2))[:, None]
    outside = (images * ~masks[:, None]).sum((2, 3)) / (~masks).sum((1, 2))[:, None]
    assert ((inside - outside).norm(dim=1) > 50).all()


def test_masks_are_read_at_the_latents_centres():
    source = ShapesSource(20, 32)
    sample = autoencoder_to_sample(tiny_autoencoder(), source)
    masks = source.masks(torch.arange(20))
    assert torch.equal(sample.masks, masks[:, 2::4, 2::4])


def test_images_of_a_folder_have_no_foreground(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(8):
            image = ShapesSource(16, 32)[index][0].permute(1, 2, 0).numpy()
            Image.fromarray(image).save(tmp_path / label / f"{index}.png")
    source = FolderSource(str(tmp_path), 32)
    sample = autoencoder_to_sample(tiny_autoencoder(), source)
    assert sample.masks is None
    assert describe_sample(sample, source)["foreground"] == "not known, all pixels count"
    assert len(sample.different()) == 8  # every image is there twice
    with pytest.raises(ValueError, match="lnc needs more than 10 different latents, got 8"):
        predict(sample, ["lnc"])


def with_few_features(sample):
    """The first sixteen: a Fréchet distance of all takes seconds."""
    extract = sample.extract
    return replace(sample, features=sample.features[:, :16], extract=lambda images: extract(images)[:, :16])


def test_a_quantizing_autoencoder_has_no_rate_and_the_rest():
    sample = with_few_features(autoencoder_to_sample(tiny_vq().freeze(), ShapesSource(60, 32)))
    assert sample.noise is None
    values, left_out = predict(sample)
    assert left_out["rate"] == "needs a posterior with noise, which this autoencoder has not"
    assert set(left_out) <= {"rate", "density"}  # pixels are codes, many of them the same
    assert values["viv/within_share_of_samples"] == values["viv/within_share"]
    assert values["equivariance/rotation_weighted"] > 0


def test_an_encoder_that_commutes_has_no_equivariance_error():
    sample = with_few_features(autoencoder_to_sample(MixingAutoencoder(), ShapesSource(20, 16)))
    values, _ = predict(sample, ["equivariance", "reconstruction"])
    assert all(values[f"equivariance/{name}"] < 1e-8 for name in ("scale", "rotation", "rotation_weighted"))
    assert values["reconstruction/psnr"] == pytest.approx(100)  # the same images, to the last bit


def test_more_channels_than_three_decode_only_what_varies():
    """A dead channel decodes at its mean, wherever it is moved."""

    class Autoencoder(MixingAutoencoder):
        def encode(self, images):
            mean = torch.cat((super().encode(images).mean, torch.full_like(images[:, :1], 7.0)), dim=1)
            return SimpleNamespace(mean=mean, std=torch.ones_like(mean))

        def decode(self, latents):
            assert torch.equal(latents[:, 3], torch.full_like(latents[:, 3], 7.0))
            return super().decode(latents[:, :3])

    sample = autoencoder_to_sample(Autoencoder(), ShapesSource(12, 16))
    images = to_uint8(sample.decode(sample.latents + 1e-3))
    assert images.shape == (12, 3, 16, 16)
    assert torch.isfinite(sample.noise).all()


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
    evaluate.main()


def test_the_command_prints_numbers_with_their_directions(tmp_path, monkeypatch, capsys):
    tiny_autoencoder().save_pretrained(tmp_path / "a")
    tiny_autoencoder(seed=1).save_pretrained(tmp_path / "b")
    words = ["latents", "--data", "shapes:30", "--autoencoder", tmp_path / "a", "--output", tmp_path / "a.json"]
    run(monkeypatch, *words, "--predictors", "slope", "rank")
    result = json.loads((tmp_path / "a.json").read_text())
    expected = [metric.name for name in ("slope", "rank") for metric in PREDICTORS[name].metrics()]
    assert [name for name in result if name in QUANTITIES] == expected
    assert result["predictor_images"] == "all 30"
    assert result["directions"]["slope/slope"] == "lower"
    assert result["directions"]["rank/latents"] == "open"
    assert result["directions"]["equivariance/latent/rotation 90"] == "lower"
    printed = capsys.readouterr().out
    assert any("slope/slope" in line and "lower" in line for line in printed.splitlines())
    assert "directions" not in printed
    run(monkeypatch, *words, "--predictors", "slope", "--autoencoder", tmp_path / "b")
    result = json.loads((tmp_path / "a.json").read_text())
    both = [result[each]["slope/slope"] for each in ("first", "second")]
    assert result["differences"]["slope/slope"] == pytest.approx(both[1] - both[0])
    line = next(line for line in capsys.readouterr().out.splitlines() if "slope/slope" in line)
    assert ("better" in line) == (both[1] < both[0])


def test_the_command_can_do_without_and_refuses_what_it_does_not_know(tmp_path, monkeypatch, capsys):
    tiny_autoencoder().save_pretrained(tmp_path / "a")
    words = ["latents", "--data", "shapes:12", "--autoencoder", tmp_path / "a", "--output", tmp_path / "a.json"]
    run(monkeypatch, *words, "--predictors", "none")
    result = json.loads((tmp_path / "a.json").read_text())
    assert not set(result) & QUANTITIES
    assert "predictor_images" not in result
    with pytest.raises(SystemExit):
        run(monkeypatch, *words, "--predictors", "vvi")
    assert "predictor 'vvi' is unknown: use all, none, or some of viv, lnc" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_all_predictors_are_measured_unless_asked_otherwise(tmp_path, monkeypatch, capsys):
    tiny_autoencoder().save_pretrained(tmp_path / "a")
    words = ["latents", "--data", "shapes:40", "--autoencoder", tmp_path / "a", "--output", tmp_path / "a.json"]
    run(monkeypatch, *words)
    result = json.loads((tmp_path / "a.json").read_text())
    assert set(result) >= QUANTITIES
    assert result["foreground"] == "known"
    assert "left_out" not in result


def test_one_image_has_no_spread_and_what_cannot_be_measured_of_it_is_said_once(tmp_path, monkeypatch, capsys):
    tiny_autoencoder().save_pretrained(tmp_path / "a")
    words = ["latents", "--data", "shapes:1", "--autoencoder", tmp_path / "a", "--output", tmp_path / "a.json"]
    run(monkeypatch, *words)
    result = json.loads((tmp_path / "a.json").read_text())
    assert "equivariance/latent/rotation 90" in result
    assert not [name for name in result if name.endswith("_std")]
    assert result["left_out"]["rank"].startswith("needs finite latents [N, C, h, w] of three images at least")
    assert " ".join(capsys.readouterr().out.split()).count("of three images at least") == 1


def test_directions_of_quantities():
    assert find_metric("psnr").direction == "higher"
    assert find_metric("lnc/above_chance").direction == "higher"
    assert find_metric("viv/of_white").direction == "lower"
    assert find_metric("rank/latents").direction == "open"
    assert find_metric("intrinsic_dimension").direction is find_metric("psnr_std").direction is None
    assert is_better("viv/of_white", -0.1)
    assert is_better("rank/latents", 0.1) is None
    assert result_table({"viv/of_white": 0.5, "psnr": 1.0}).columns[-1]._cells == ["lower", "higher"]
    marks = comparison_table({"lnc/at_10": 0.1}, {"lnc/at_10": 0.2}, ("a", "b")).columns[-1]._cells
    assert marks == ["[green]better[/]"]
