"""What the data modules of both stages refuse: held-out images that are learned, numbers that nothing is read with."""

import pytest
from PIL import Image

from dit.data import LatentDataModule
from eqvae.data import FolderSource, ImageDataModule, InMemorySource, ParquetSource, ScenesSource, ShapesSource
from tests.eqvae.test_hub_source import hub, parquet  # noqa: F401
from tests.eqvae.test_images import encoded


def test_held_out_images_that_are_learned_are_warned_of(tmp_path):
    (tmp_path / "1.png").write_bytes(encoded(Image.new("RGB", (16, 16))))
    pairs = [
        (ShapesSource(20, 16, seed=3), ShapesSource(5, 16, seed=3)),
        (ShapesSource(5, 16), InMemorySource(ShapesSource(20, 16))),
        (ScenesSource(20, 16), ScenesSource(20, 16)),
        (FolderSource(str(tmp_path), 16), FolderSource(str(tmp_path), 16)),
    ]
    for train, validation in pairs:
        with pytest.warns(UserWarning, match=r"^data\.init_args\.validation has the images of data\.init_args\.train"):
            ImageDataModule(train, validation)
    for other in (ShapesSource(20, 16, seed=4), ScenesSource(20, 16, seed=3), ShapesSource(20, 32, seed=3)):
        assert ImageDataModule(pairs[0][0], other).sources["validation"] is other


def test_no_held_out_images_are_no_training_images(parquet, hub):  # noqa: F811
    class Empty(ShapesSource):
        def __len__(self):
            return 0

    with pytest.raises(ValueError, match=r"^data\.init_args\.validation holds no images: give some, or null$"):
        ImageDataModule(ShapesSource(20, 16), Empty(1, 16))
    for open_part in (lambda: ParquetSource(parquet, 16, max_images=0), lambda: hub(parquet, max_images=0)):
        with pytest.raises(ValueError, match=r"^max_images must be at least 1 and finite, got 0$"):
            open_part()


NUMBERS = [
    ("evaluation_batch_size", 0, "must be at least 1"),
    ("evaluation_batch_size", -3, "must be at least 1"),
    ("num_workers", -1, "must be at least 0"),
    ("num_validation_NAME", 0, "must be at least 1"),
    ("seed", 1 << 64, "must be at least 0 and at most"),
]


@pytest.mark.parametrize(("name", "value", "message"), NUMBERS)
def test_numbers_that_nothing_is_read_with_are_refused(name, value, message):
    for kind, create in (("images", lambda **numbers: ImageDataModule(ShapesSource(9, 16), **numbers)),
                         ("latents", lambda **numbers: LatentDataModule("cache", **numbers))):  # fmt: skip
        key = name.replace("NAME", kind)
        with pytest.raises(ValueError, match=rf"^data\.init_args\.{key} {message} .*finite, got {value}$"):
            create(**{key: value})
