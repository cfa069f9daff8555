"""Data sets of the hub's package: local ones in its three forms; what is wrong with one in a line."""

import pickle

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from eqvae.data import HubSource, ParquetSource, open_source
from tests.eqvae.test_images import encoded
from tests.eqvae.test_tars import content_of


def rows(count: int) -> list[dict]:
    return [{"bytes": encoded(Image.new("RGB", (20, 20), (n,) * 3)), "path": f"{n}.png"} for n in range(count)]


@pytest.fixture
def parquet(tmp_path):
    """A parquet file of six images with captions and classes."""
    path = tmp_path / "six.parquet"
    columns = {"image": rows(6), "caption": ["a dot"] * 6, "kind": [0, 1, 2, 0, 1, 2]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return str(path)


@pytest.fixture
def hub(tmp_path):
    """Opens a source whose package keeps its files in the test's folder."""
    return lambda path, **options: HubSource(path, 16, cache_dir=str(tmp_path / "cache"), **options)


def test_captions_alone_make_one_class(parquet, hub):
    expected = [(level, 0) for level in range(6)]
    source = hub("parquet", data_files=parquet)
    assert content_of(source) == expected
    assert (source.num_classes, source.class_names) == (1, ["all"])
    assert content_of(pickle.loads(pickle.dumps(source))) == expected
    plain = ParquetSource(parquet, 16)
    assert (content_of(plain), plain.num_classes, plain.class_names) == (expected, 1, ["all"])


def test_a_named_column_gives_classes_and_a_part_keeps_them(parquet, hub):
    source = hub("parquet", data_files=parquet, label_column="kind")
    assert content_of(source) == [(level, level % 3) for level in range(6)]
    part = hub("parquet", data_files=parquet, label_column="kind", max_images=2)
    assert (len(part), part.num_classes) == (2, 3)
    assert all(label == level % 3 for level, label in content_of(part))
    assert len({source.fingerprint(), part.fingerprint(), hub("parquet", data_files=parquet).fingerprint()}) == 3
    assert hub("parquet", data_files=parquet, label_column="kind").fingerprint() == source.fingerprint()


def test_saved_and_folder_sets_have_names_of_classes(tmp_path, hub):
    import datasets

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    made = datasets.Dataset.from_dict({"image": rows(4), "label": [0, 1, 1, 0]}, datasets.Features(features))
    made.save_to_disk(tmp_path / "saved")
    saved = hub(str(tmp_path / "saved"))
    assert (content_of(saved), saved.class_names) == ([(0, 0), (1, 1), (2, 1), (3, 0)], ["cat", "dog"])
    for number, name in enumerate(["cat", "dog"]):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.png").write_bytes(rows(9)[number + 7]["bytes"])
    folder = hub("imagefolder", data_dir=str(tmp_path / "images"))
    assert (content_of(folder), folder.class_names) == ([(7, 0), (8, 1)], ["cat", "dog"])
    before = folder.fingerprint()
    (tmp_path / "images" / "cat" / "1.png").write_bytes(rows(1)[0]["bytes"] + b"0")
    assert folder.fingerprint() != before


def test_options_that_cannot_act_on_a_saved_folder_are_refused(tmp_path):
    import datasets

    made = datasets.Dataset.from_dict({"image": rows(4)}, datasets.Features({"image": datasets.Image()}))
    made.save_to_disk(tmp_path / "saved")
    datasets.Dataset.from_dict(made.to_dict(), made.features, split="test").save_to_disk(tmp_path / "test")
    assert len(HubSource(str(tmp_path / "test"), 16, split="test")) == 4
    cases = [
        ("saved", {"name": "x"}, "is a saved folder, on which name cannot act: leave it out"),
        ("saved", {"data_files": "x"}, "is a saved folder, on which data_files cannot act"),
        ("saved", {"revision": "x"}, "is a saved folder, on which revision cannot act"),
        ("saved", {"split": "validation"}, "is a saved folder of split train: give split train, not validation"),
        ("test", {}, "is a saved folder of split test: give split test, not train"),
    ]
    for folder, options, message in cases:
        with pytest.raises(ValueError, match=message):
            HubSource(str(tmp_path / folder), 16, **options)


def test_what_is_wrong_is_said_in_one_line(parquet, hub, tmp_path, monkeypatch):
    cases = [
        ({"image_column": "photo"}, r"no column 'photo', only image, caption, kind: .* image_column"),
        ({"image_column": "kind"}, "column 'kind' holds .*, not images"),
        ({"label_column": "caption"}, "column 'caption' has no class for every row"),
        ({"split": "test"}, r"data set parquet \(split test\) cannot be loaded"),
    ]
    for options, expected in cases:
        with pytest.raises(ValueError, match=expected) as error:
            hub("parquet", data_files=parquet, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"data set owner/nothing \(split test\) cannot be loaded"):
        open_source("hub:owner/nothing:test", 16)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match=r"data set parquet needs the package datasets: pip install 'eqvae\[hub\]'"):
        hub("parquet", data_files=parquet)


def test_rows_that_are_no_images_are_named(tmp_path, hub):
    path = tmp_path / "damaged.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": [*rows(2), {"bytes": b"broken", "path": None}]}), path)
    with pytest.raises(ValueError, match="data set parquet: train row 2 is not a readable image"):
        content_of(hub("parquet", data_files=str(path)))
