"""Images in: modes and orientation, the centre crop, uint8 rules, procedural shapes, folders and parquet files."""

import io
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from eqvae.data import (
    FolderSource,
    InMemorySource,
    ParquetSource,
    ShapesSource,
    center_crop,
    open_image,
    open_source,
    read_images,
    to_float,
    to_uint8,
)
from eqvae.data.shapes import draw_shapes
from eqvae.selection import evenly_spaced
from tests.fixtures import shared_data


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mean_colour(source) -> list[float]:
    return np.asarray(open_image(source), np.float64).mean((0, 1)).tolist()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 100), [100, 100, 100]),
        (Image.new("1", (4, 4), 1), [255, 255, 255]),
        (Image.new("RGBA", (4, 4), (200, 0, 0, 0)), [255, 255, 255]),
        (Image.new("LA", (4, 4), (10, 255)), [10, 10, 10]),
        (Image.fromarray(np.full((4, 4), 32768, np.uint16)), [127, 127, 127]),
    ],
    ids=["grey", "one bit", "transparent", "grey and alpha", "16 bit"],
)
def test_every_mode_becomes_right_rgb(image, expected):
    assert mean_colour(encoded(image)) == pytest.approx(expected, abs=1)


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (8, 4), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert open_image(encoded(image, "JPEG", exif=exif)).size == (4, 8)


@pytest.mark.parametrize("content", [b"", b"<html>", encoded(Image.new("RGB", (64, 64)), "JPEG")[:300]])
def test_unreadable_images_are_named_in_one_line(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.jpg") as error:
        open_image(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [(64, 64), (65, 40), (33, 100), (128, 97), (32, 32)])
def test_center_crop_has_the_size_and_the_centre(size):
    gradient = np.tile(np.linspace(0, 255, size[0]), (size[1], 1)).astype(np.uint8)
    cropped = np.asarray(center_crop(Image.fromarray(gradient).convert("RGB"), 32), np.float64)
    assert cropped.shape == (32, 32, 3)
    assert cropped.mean() == pytest.approx(127.5, abs=4)


def test_uint8_rules():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(levels)), levels)
    x = torch.tensor([-2.0, -1.0, 0.0, 0.001, 1.0, 2.0])
    assert to_uint8(x, "truncate").tolist() == [0, 0, 128, 128, 255, 255]
    with pytest.raises(ValueError, match="unknown"):
        to_uint8(x, "floor")


def test_shapes_depend_on_seed_and_index_alone():
    together = draw_shapes(3, list(range(40)), 32)
    assert torch.equal(together[17:18], draw_shapes(3, [17], 32))
    assert not torch.equal(together, draw_shapes(4, list(range(40)), 32))
    assert torch.equal(ShapesSource(40, 32, seed=3, num_threads=3).images, together)
    large = draw_shapes(3, list(range(40)), 64).float()
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (shrunk - together.float()).abs().mean() < 4, "another resolution shows another scene"


def test_shapes_have_ten_classes_that_can_be_told_apart():
    """Nearest neighbour by silhouette, turned and moved by no one, beats chance (0.1) by far."""
    source = ShapesSource(1200, 32)
    assert [source[i][1] for i in range(12)] == [*range(10), 0, 1]
    images = to_float(source.images)
    edges = (images - images[:, :, :1, :1]).abs().mean(1)
    spectrum = torch.fft.fft2(edges).abs().log1p().flatten(1)  # forgets the place
    labels = torch.arange(1200) % 10
    distances = torch.cdist(spectrum[1000:], spectrum[:1000])
    votes = labels[distances.topk(7, largest=False).indices].mode().values
    assert (votes == labels[1000:]).float().mean() > 0.25


def test_folder_source(tmp_path):
    for name, colour in (("b", 10), ("a", 200)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 36), (colour,) * 3).save(tmp_path / name / "x.png")
    (tmp_path / ".hidden").mkdir()
    source = FolderSource(str(tmp_path), 16)
    assert source.class_names == ["a", "b"]
    assert [(int(image.float().mean()), label) for image, label in (source[0], source[1])] == [(200, 0), (10, 1)]
    before = source.fingerprint()
    Image.new("RGB", (40, 36)).save(tmp_path / "a" / "y.png")
    assert FolderSource(str(tmp_path), 16).fingerprint() != before
    (tmp_path / "c").mkdir()
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=root.name):
            FolderSource(str(root), 16)


def write_parquet(path, count=4, **columns):
    rows = [{"bytes": encoded(Image.new("RGB", (20, 20), (i, 0, 0))), "path": f"{i}.png"} for i in range(count)]
    pyarrow.parquet.write_table(pyarrow.table({"image": rows} | columns), path)


def reds(source) -> list[int]:
    return [int(source[index][0][0, 0, 0]) for index in range(len(source))]


def test_parquet_source(tmp_path):
    for part in range(2):
        write_parquet(tmp_path / f"part-{part}.parquet", label=[0, 1, 2, 1])
    source = ParquetSource(str(tmp_path / "part-*.parquet"), 16)
    assert (len(source), source.num_classes) == (8, 3)
    assert reds(InMemorySource(source)) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert InMemorySource(source)[6][1] == 2
    (tmp_path / "text.parquet").write_text("not parquet")
    for files, expected in (("none-*.parquet", "no parquet file"), ("text.parquet", "text.parquet")):
        with pytest.raises(ValueError, match=expected):
            ParquetSource(str(tmp_path / files), 16)
    with pytest.raises(ValueError, match="only image, label"):
        ParquetSource(str(tmp_path / "part-0.parquet"), 16, label_column="class")
    with pytest.raises(ValueError, match="column 'label' holds int64, not encoded images"):
        ParquetSource(str(tmp_path / "part-0.parquet"), 16, image_column="label")


def test_parquet_files_name_classes_that_a_part_of_them_lacks(tmp_path):
    """As of one shard, or of a sorted part: names and number of classes disagreed, and no cache could be finished."""

    def named(*names):
        write_parquet(tmp_path / "part.parquet", label=[0, 1, 2, 1])
        table = pyarrow.parquet.read_table(tmp_path / "part.parquet")
        about = {"info": {"features": {"label": {"names": names}}}}
        schema = table.schema.with_metadata({b"huggingface": json.dumps(about).encode()})
        pyarrow.parquet.write_table(table.cast(schema), tmp_path / "part.parquet")
        return ParquetSource(str(tmp_path / "part.parquet"), 16)

    source = named("a", "b", "c", "d")
    assert (source.num_classes, source.class_names) == (4, ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="column 'label' has class 2, its files name 2"):
        named("a", "b")


def test_parquet_files_need_no_labels(tmp_path):
    write_parquet(tmp_path / "bare.parquet")
    write_parquet(tmp_path / "unlabelled.parquet", label=[-1] * 4)  # how the hub marks a split without labels
    for name in ("bare", "unlabelled"):
        source = ParquetSource(str(tmp_path / f"{name}.parquet"), 16)
        assert (source.num_classes, source.class_names, source[3][1]) == (1, ["all"], 0)
    assert open_source(str(tmp_path / "bare.parquet"), 16)[0][0].shape == (3, 16, 16)
    for name, labels in (("some", [0, 1, None, 1]), ("text", ["a", "b", "a", "b"]), ("below", [0, -1, 1, 2])):
        write_parquet(tmp_path / f"{name}.parquet", label=labels)
        with pytest.raises(ValueError, match=rf"{name}\.parquet.*'label'"):
            ParquetSource(str(tmp_path / f"{name}.parquet"), 16)


def test_a_limited_parquet_source_is_of_all_rows(tmp_path):
    """Sorted by class, the first rows would be of one class."""
    for part in range(2):
        write_parquet(tmp_path / f"part-{part}.parquet", 100, label=[2 * part + row // 50 for row in range(100)])
    files = str(tmp_path / "part-*.parquet")
    limited = ParquetSource(files, 16, max_images=40)
    assert (len(limited), limited.num_classes) == (40, 4)
    assert torch.bincount(limited.labels).tolist() == [10, 10, 10, 10]
    rows = evenly_spaced(40, 200)
    assert reds(limited) == (rows % 100).tolist()
    assert limited.fingerprint() != ParquetSource(files, 16).fingerprint()
    write_parquet(tmp_path / "broken.parquet", 3)
    table = pyarrow.parquet.read_table(tmp_path / "broken.parquet").to_pydict()["image"]
    table[1]["bytes"] = b"broken"
    pyarrow.parquet.write_table(pyarrow.table({"image": table}), tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match=r"broken\.parquet: row 1 is not a readable"):
        ParquetSource(str(tmp_path / "broken.parquet"), 16)[1]


def test_real_cifar10_is_read():
    source = ParquetSource(str(shared_data("cifar10-test-*.parquet")), 32, max_images=20)
    assert source[0][0].shape == (3, 32, 32)
    assert source.num_classes == 10


def test_images_named_on_a_command_line(tmp_path):
    assert torch.equal(read_images("shapes:5:1", 16), ShapesSource(5, 16, seed=1).images)
    np.savez(tmp_path / "samples.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8))
    assert read_images(str(tmp_path / "samples.npz"), 8).shape == (2, 3, 8, 8)
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(3))
    with pytest.raises(ValueError, match="holds no images"):
        read_images(str(tmp_path / "statistics.npz"), 8)
    with pytest.raises(ValueError, match="shapes:COUNT"):
        open_source("shapes:many", 16)
