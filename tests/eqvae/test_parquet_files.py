"""Parquet files of one set that do not agree, and what else their writers leave."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from eqvae.data import ParquetSource
from tests.eqvae.test_images import reds, write_parquet


def write_named(path, about: dict | str) -> None:
    """A file of four images whose schema holds what an exporter left."""
    write_parquet(path, label=[0, 1, 0, 1])
    table = pyarrow.parquet.read_table(path)
    content = about if isinstance(about, str) else json.dumps(about)
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"huggingface": content.encode()}), path)


def names(*classes: str) -> dict:
    return {"info": {"features": {"label": {"names": classes}}}}


def test_files_that_disagree_about_classes_are_refused_with_both(tmp_path):
    files = str(tmp_path / "*.parquet")
    write_named(tmp_path / "0.parquet", names("cat", "dog"))
    write_named(tmp_path / "1.parquet", names("dog", "cat"))
    with pytest.raises(
        ValueError, match=r"0\.parquet and \S*1\.parquet name other classes in 'label': read them apart"
    ):
        ParquetSource(files, 16)
    write_parquet(tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"0\.parquet has a column 'label', \S*1\.parquet has none: give every file"):
        ParquetSource(files, 16)
    write_parquet(tmp_path / "1.parquet", label=[0, 1, 1, 1])
    assert ParquetSource(files, 16).class_names == ["cat", "dog"]


@pytest.mark.parametrize("about", [{"info": {"features": None}}, {"info": [1]}, '{"info'])
def test_a_schema_that_says_nothing_of_classes_names_none(tmp_path, about):
    write_named(tmp_path / "0.parquet", about)
    source = ParquetSource(str(tmp_path / "0.parquet"), 16)
    assert (source.class_names, source.num_classes) == (None, 2)


def test_bytes_of_all_kinds_are_read_together(tmp_path):
    write_parquet(tmp_path / "0.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "0.parquet").to_pydict()["image"]
    for number, kind in enumerate((pyarrow.binary(), pyarrow.large_binary()), 1):
        images = pyarrow.array([row["bytes"] for row in rows], kind)
        pyarrow.parquet.write_table(pyarrow.table({"image": images}), tmp_path / f"{number}.parquet")
    assert reds(ParquetSource(str(tmp_path / "*.parquet"), 16)) == [0, 1, 2, 3] * 3


def test_a_path_with_the_signs_of_a_glob_is_a_path(tmp_path):
    (tmp_path / "[x]").mkdir()
    write_parquet(tmp_path / "[x]" / "0.parquet")
    assert len(ParquetSource(str(tmp_path / "[x]" / "0.parquet"), 16)) == 4
