"""What an export says of its training images: a name, never a path."""

from types import SimpleNamespace

import pytest
from PIL import Image

from eqvae.data import FolderSource, ShapesSource
from eqvae.data.sources import InMemorySource
from eqvae.provenance import describe_data, source_name


def test_a_folder_goes_by_its_name(tmp_path):
    folder = tmp_path / "private" / "pets"
    folder.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(folder / "cat.png")
    source = InMemorySource(FolderSource(str(folder), image_size=16))
    data = SimpleNamespace(sources={"train": source})
    assert describe_data(data) == {"name": "pets", "num_images": 1, "image_size": 16}
    assert describe_data(SimpleNamespace()) == {}, "a data module of others may not tell"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (ShapesSource(2, 32), "shapes"),
        (SimpleNamespace(paths=["/data/cifar10/train-000.parquet", "/data/cifar10/train-001.parquet"]), "cifar10"),
        (SimpleNamespace(path="owner/pictures"), "owner/pictures"),
        (SimpleNamespace(path="/data/pictures"), "pictures"),
        (SimpleNamespace(), "SimpleNamespace"),
    ],
)
def test_other_sources_go_by_what_people_call_them(source, name):
    assert source_name(source) == name
