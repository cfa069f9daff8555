"""What predictors ask an autoencoder: interpolation, equivariance, distortion, reconstruction."""

import math
from dataclasses import replace

import pytest
import torch

from eqvae.data import to_uint8
from eqvae.evaluation import frechet_distance
from eqvae.evaluation.predictors import PREDICTORS, LatentSample
from eqvae.evaluation.predictors.equivariance import channel_errors
from eqvae.evaluation.predictors.interpolation import compute as interpolate
from eqvae.evaluation.predictors.interpolation import nearest_others, slerp
from eqvae.evaluation.predictors.sensitivity import channel_sensitivity
from tests.eqvae.predictors.samples import normal, orthogonal, random_sample

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")


def random_images(count=24, side=16):
    waves = torch.nn.functional.interpolate(normal(count, 3, 4, 4), (side, side), mode="bicubic")
    return to_uint8((waves / 3).clamp(-1, 1))


def model_sample(encode, decode=None, images=None):
    images = random_images() if images is None else images
    return LatentSample(normal(len(images), 3, 4, 4), images.shape[-1], images=images, encode=encode, decode=decode)


def test_points_on_the_sphere():
    start, end = torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1)
    start[0, 0] = 3.0
    end[0, 1] = 3.0
    start[1, 0], end[1, 0] = 2.0, 6.0
    middle = slerp(start, end, 0.5)
    assert float(middle[0].norm()) == pytest.approx(3)  # of right angles: the length stays
    assert middle[1, :, 0, 0].tolist() == [4, 0]  # of parallel vectors: a line
    torch.testing.assert_close(slerp(start, end, 0.0), start)
    torch.testing.assert_close(slerp(start, end, 1.0), end)
    unequal = 2 * normal(5, 3, 2, 2), normal(5, 3, 2, 2, seed=1)
    torch.testing.assert_close(slerp(*unequal, 0.3), slerp(*unequal[::-1], 0.7))
    angle = torch.nn.functional.cosine_similarity(slerp(*unequal, 0.3).flatten(1), unequal[0].flatten(1))
    assert (angle > torch.nn.functional.cosine_similarity(*(each.flatten(1) for each in unequal))).all()


def test_no_latent_is_its_own_neighbour():
    latents, queries, among = normal(700, 2, 2, 2), torch.arange(0, 700, 2), torch.arange(0, 700, 4)
    nearest = nearest_others(latents, queries, among)
    directions = torch.nn.functional.normalize(latents.flatten(1), dim=1)
    likeness = (directions @ directions.T).fill_diagonal_(-2)
    assert torch.equal(nearest, among[likeness[queries][:, among].argmax(1)])
    assert not (nearest == queries).any()


def circle_sample(angles):
    """Points on a circle as latents of two channels; images are the points, features the point's coordinates."""
    latents = torch.stack((angles.cos(), angles.sin()), dim=1).float()[:, :, None, None]
    quantized = lambda points: torch.stack((points[:, 0], points[:, 1], 0 * points[:, 0]), dim=1)  # noqa: E731
    extract = lambda images: images[:, :2].float().flatten(1) / 127.5 - 1  # noqa: E731
    return LatentSample(latents, 1, features=extract(to_uint8(quantized(latents))), decode=quantized, extract=extract)


def test_interpolation_within_a_set_that_holds_its_own_midpoints_costs_nothing():
    centres = torch.arange(40) * 2 * math.pi / 40
    sample = circle_sample(torch.cat((centres - 0.02, centres + 0.02)))
    values = PREDICTORS["interpolation"](sample)
    # All points have the same second moments, up to the 1 / 127.5 of uint8 images.
    assert values["interpolation/fd_efficientnet_lite0"] == pytest.approx(0, abs=1e-3)
    assert values["interpolation/excess"] == pytest.approx(0, abs=1e-3)
    wide = circle_sample(torch.cat((torch.linspace(-0.9, -0.5, 30), torch.linspace(0.5, 0.9, 30))) + math.pi / 2)
    assert PREDICTORS["interpolation"](wide)["interpolation/excess"] < 0.01


def test_interpolation_by_nothing_is_reconstruction():
    sample = random_sample()
    values = interpolate(sample, share=0.0)
    real = sample.features
    decoded = sample.extract(to_uint8(sample.decode(sample.latents)))
    assert values["fd_efficientnet_lite0"] == pytest.approx(frechet_distance(real, decoded), rel=1e-9)
    assert values["excess"] == pytest.approx(0, abs=1e-9)
    reconstruction = PREDICTORS["reconstruction"](sample)["reconstruction/fd_efficientnet_lite0"]
    assert reconstruction == pytest.approx(values["fd_efficientnet_lite0"], rel=1e-9)


def test_no_more_are_decoded_than_say_something(monkeypatch):
    monkeypatch.setattr("eqvae.evaluation.predictors.decoding.NUM_DECODED", 20)
    counts = []
    sample = random_sample()
    counting = replace(sample, decode=lambda latents: counts.append(len(latents)) or sample.decode(latents))
    interpolate(counting)
    assert counts == [20, 20]  # midpoints, and reconstructions of the same latents


def test_swapping_neighbours_swaps_the_shares():
    """Pairs of neighbours of each other: 30 % of the way is 70 % of the way of the other."""
    pairs = normal(30, 3, 4, 4)
    latents = torch.cat((pairs, pairs + 0.1 * normal(30, 3, 4, 4, seed=1)))
    sample = replace(random_sample(), latents=latents, decode=lambda latents: latents / 3)
    rows = torch.arange(60)
    assert torch.equal(nearest_others(latents, rows, rows), rows.roll(30))
    shares = [interpolate(sample, share)["fd_efficientnet_lite0"] for share in (0.3, 0.7)]
    assert shares[0] == pytest.approx(shares[1], rel=1e-6)


def test_copies_are_no_neighbours_to_interpolate_with():
    latents = normal(30, 3, 8, 8)
    sample = replace(random_sample(), latents=latents.repeat(2, 1, 1, 1), labels=None, masks=None)
    once = replace(sample, latents=latents, features=sample.features[:30], _kept={})
    seen = []
    for each in (sample, once):
        decoded = []
        recorder = lambda part, decoded=decoded: decoded.append(part) or part / 3  # noqa: E731
        interpolate(replace(each, decode=recorder, _kept={}))
        seen.append(decoded[0])
    torch.testing.assert_close(seen[0], seen[1])
    with pytest.raises(ValueError, match="interpolation needs two different latents at least"):
        interpolate(replace(sample, latents=latents[:1].repeat(60, 1, 1, 1), _kept={}))


def test_an_encoder_that_commutes_has_no_error():
    mixing = orthogonal(3)
    sample = model_sample(
        encode=lambda images: torch.einsum("ij,bjhw->bihw", mixing, images),
        decode=lambda latents: torch.einsum("ji,bjhw->bihw", mixing, latents),
    )
    values = PREDICTORS["equivariance"](sample)
    assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-10)


def with_noise_channel(images):
    """Latents of an image as it is, and one channel of unit noise that has nothing to do with it."""
    key = int(1e4 * float(images.abs().sum() + images[0, 0, 0].sum())) % 9999  # other images, other noise
    noise = normal(len(images), 1, *images.shape[2:], seed=key)
    return torch.cat((images / images.std(), noise), dim=1)


def test_a_channel_of_noise_has_an_error_of_two_unless_the_decoder_ignores_it():
    sample = model_sample(encode=with_noise_channel, decode=lambda latents: latents[:, :3])
    errors, norms = channel_errors(sample)["rotation 90"]
    assert float(errors[:, 3].sum() / norms[:, 3].sum()) == pytest.approx(2, abs=0.1)
    values = PREDICTORS["equivariance"](sample)
    assert values["equivariance/rotation"] > 0.3
    assert values["equivariance/rotation_weighted"] == pytest.approx(0, abs=1e-10)
    heard = replace(sample, decode=lambda latents: latents[:, :3] + latents[:, 3:], _kept={})
    assert PREDICTORS["equivariance"](heard)["equivariance/rotation_weighted"] > 0.3


def test_sensitivity_is_the_squared_derivative():
    matrix = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    sample = model_sample(encode=lambda images: images, decode=lambda z: torch.einsum("ij,bjhw->bihw", matrix, z))
    columns = matrix.square().sum(0)
    # Random projections of 24 x 256 pixels: a relative error of sqrt(2 / 6144).
    torch.testing.assert_close(channel_sensitivity(sample).float(), columns / columns.sum(), rtol=0.06, atol=0)


def test_sensitivity_is_not_that_of_the_first_class():
    """Images of class folders are sorted: of 80 the first 40 use the first channel alone, the others the second."""
    images = torch.full((80, 3, 16, 16), 128, dtype=torch.uint8)
    images[:40, 0], images[40:, 1] = 255, 255
    sample = model_sample(lambda given: given[:, :, ::4, ::4], lambda latents: latents.square(), images)
    shares = channel_sensitivity(sample)
    assert shares[:2].tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    assert shares[2] < 0.01


def test_a_scaled_isometry_has_no_distortion():
    mixing = 7 * orthogonal(3)
    sample = model_sample(encode=lambda images: torch.einsum("ij,bjhw->bihw", mixing, images) + 3)
    values = PREDICTORS["distortion"](replace(sample, decode=lambda latents: latents))
    assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-4)  # float32 differences of a 50th


def test_distortion_is_the_spread_of_log_stretches():
    """The mean of an image three times as strong as all else: brightness is stretched by 3, saturation by 1."""

    def encode(images):
        return images + 2 * images.mean((1, 2, 3), keepdim=True)

    sample = model_sample(encode=encode, decode=encode)
    values = PREDICTORS["distortion"](sample)
    # Shifts, contrast and saturation keep the mean: logs 0, 0, log 3, 0, 0.
    assert values["distortion/within_image"] == pytest.approx(math.log(3) * math.sqrt(0.2 * 0.8), rel=0.01)
    assert values["distortion/log_spread"] == pytest.approx(values["distortion/within_image"], rel=0.01)
    varied = model_sample(encode=lambda images: images * images.std((1, 2, 3), keepdim=True), decode=encode)
    values = PREDICTORS["distortion"](varied)
    assert values["distortion/log_spread"] > values["distortion/within_image"]


def test_grey_images_have_no_saturation_to_change():
    grey = random_images()[:, :1].expand(-1, 3, -1, -1).contiguous()
    values = PREDICTORS["distortion"](model_sample(lambda images: 5 * images, lambda latents: latents, grey))
    assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-4)


def test_reconstruction_is_that_of_the_images_at_hand():
    sample = replace(random_sample(), encode=lambda images: images, decode=lambda latents: latents[:, :3] + 2 / 255)
    sample.images = sample.images // 2  # nothing is clipped
    values = PREDICTORS["reconstruction"](sample)
    assert values["reconstruction/psnr"] == pytest.approx(20 * math.log10(255), abs=1e-3)  # one step of 255
