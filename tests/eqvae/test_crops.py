"""Random crops of published trainings: which part of an image they keep, how they resize it, what they are keyed by."""

import numpy as np
import pytest
import torch
from PIL import Image

from eqvae.bases import load_config
from eqvae.data import FolderSource, ImageDataModule, ShapesSource, adm_random_crop, eq_vae_random_crop
from eqvae.data.module import ImageBatches

NUM_DRAWS = 200


def draws(count=NUM_DRAWS):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0))


def averaged_by_area(pixels: np.ndarray, size: int) -> np.ndarray:
    """[size, size, 3] of square pixels [side, side, 3]: each pixel cut into size x size parts, side x side averaged."""
    side = len(pixels)
    fine = pixels.astype(np.float64).repeat(size, 0).repeat(size, 1)
    return fine.reshape(size, side, size, side, 3).mean((1, 3))


def test_adm_s_crop_is_of_the_right_size_and_place():
    ramp = np.add.outer(np.arange(90), np.arange(120)).astype(np.uint8)
    image = Image.fromarray(ramp).convert("RGB")
    crops = [np.asarray(adm_random_crop(image, 64, draw)) for draw in draws(50)]
    assert {crop.shape for crop in crops} == {(64, 64, 3)}
    steps = [float(crop[0, -1, 0]) - float(crop[0, 0, 0]) for crop in crops]
    assert 0.99 * 63 * 90 / 80 < min(steps) + 2 < max(steps) < 1.01 * 63 * 90 / 64 + 2  # short side 64 to 80
    whole = np.asarray(adm_random_crop(image, 64, torch.tensor([1e-6, 1e-6, 1e-6])))
    resized = np.asarray(image.resize((round(120 * 64 / 90), 64), Image.Resampling.BICUBIC))
    assert (whole == resized[:, :64]).all()


def test_eq_vae_s_crop_keeps_half_to_all_of_the_short_side_anywhere():
    """Red tells the column and green the row, so that the first and last pixels tell place and side."""
    ramp = np.zeros((100, 240, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(240), np.arange(100)[:, None]
    crops = np.stack([np.asarray(eq_vae_random_crop(Image.fromarray(ramp), 32, draw)) for draw in draws()]).astype(int)
    widths, heights = (crops[:, -1, -1, channel] - crops[:, 0, 0, channel] for channel in (0, 1))
    sides = widths * 32 / 31  # between the centres of the first and the last pixel
    assert np.abs(widths - heights).max() <= 1, "squares"
    assert 48 <= sides.min() < 53
    assert 96 < sides.max() <= 102
    assert abs(sides.mean() - 75) < 4 * 50 / 12**0.5 / NUM_DRAWS**0.5, "uniform in 0.5 to 1"
    left = crops[:, 0, 0, 0] - sides / 64
    assert left.min() < 8
    assert left.max() > 240 - 100 - 8


@pytest.mark.parametrize(("draw", "place"), [((1e-6,) * 3, (0, 0, 20)), ((1 - 1e-6,) * 3, (1, 24, 39))])
@pytest.mark.parametrize("size", [16, 31, 64])
def test_eq_vae_s_crop_resizes_by_area(draw, place, size):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 63, 3), np.uint8)
    top, left, side = place
    expected = averaged_by_area(pixels[top : top + side, left : left + side], size)
    actual = np.asarray(eq_vae_random_crop(Image.fromarray(pixels), size, torch.tensor(draw)))
    np.testing.assert_allclose(actual, expected, atol=0.5 + 1e-3)  # rounded to a level


def test_random_crops_are_keyed_by_position(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    source = FolderSource(str(tmp_path), 32)
    ids, keys = torch.zeros(6, dtype=torch.long), torch.arange(6)
    central = ImageBatches(source).get_batch(ids[:1], None)["image"]
    for crop in ("random_adm", "random_eq_vae"):
        batches = ImageBatches(source, crop=crop, seed=1)
        images = batches.get_batch(ids, keys)["image"]
        assert torch.equal(batches.get_batch(ids[:1], keys[4:5])["image"][0], images[4])
        assert len({image.numpy().tobytes() for image in images}) == 6
        assert torch.equal(batches.get_batch(ids[:1], None)["image"], central)
        with pytest.raises(ValueError, match=f"crop {crop} needs images from files, ShapesSource has them cropped"):
            ImageBatches(ShapesSource(2, 16), crop=crop)
        data = ImageDataModule(source, crop=crop)
        assert torch.equal(next(iter(data.val_dataloader()))["image"], central)
    with pytest.raises(ValueError, match="crop 'random' is unknown: use center, random_adm or random_eq_vae"):
        ImageBatches(source, crop="random")


def test_the_released_recipe_crops_as_the_released_code():
    data = load_config("configs/eqvae/eq-vae-released.yaml").data.init_args
    assert (data["crop"], data.get("flip", False)) == ("random_eq_vae", False)
