"""Shapes of image folders: every image is read or reported, and classes are numbered as a plain listing has them."""

import os
import shutil
import unicodedata
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from eqvae.data import FolderSource
from eqvae.data.overlap import are_same_images
from eqvae.evaluation.inputs import reference_to_feature_set

SIDE = 16


def lay_out(root: Path, *names: str) -> Path:
    """Images at these paths below `root`; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            kind = "JPEG" if path.suffix.lower() in (".jfif", ".jpe") else None
            Image.new("RGB", (SIDE, SIDE), (len(name), 0, 0)).save(path, kind or "PNG")
    return root


def read(root: Path, **options) -> list[tuple[str, str]]:
    """(path below the root, class name) of every image of a source, in order."""
    source = FolderSource(str(root), SIDE, **options)
    assert len(source) == len(source.files)
    return [(str(path.relative_to(root)), source.class_names[label]) for path, label in source.files]


def reference(root: Path) -> list[tuple[str, str]]:
    """The same by plain listing: classes are the visible folders, by name; all visible images below are theirs."""
    classes = sorted(name for name in os.listdir(root) if (root / name).is_dir() and not name.startswith("."))
    found = []
    for name in classes:
        for path in sorted((root / name).rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if path.is_file() and path.suffix.lower() in (".png", ".jpg", ".jfif") and not hidden:
                found.append((str(path.relative_to(root)), name))
    return found


LAYOUTS = {
    "plain": ["b/2.png", "a/1.png", "a/0.png", "c/9.jpg"],
    "nested": ["a/x/1.png", "a/1.png", "a/x.png", "a/x/y/0.png", "b/1.png"],
    "hidden": ["a/1.png", "a/.2.png", ".b/1.png", "a/.c/1.png", "b/1.png"],
    "non-ASCII": [
        "äpfel/ß.png",
        "zebra/1.png",
        "Ähre/1.png",
        "日本/1.png",
        unicodedata.normalize("NFD", "äpfel2/é.png"),
    ],
    "case twins": ["Cat/1.png", "cat/1.png", "cat/1.PNG", "DOG/2.JFIF", "dog/2.jfif"],
    "suffixes": ["a/1.PNG", "a/2.JPG", "a/3.Jfif", "b/4.jfif"],
}


@pytest.mark.reliability(22, counts="layouts")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_are_those_of_a_plain_listing(layout, tmp_path):
    root = lay_out(tmp_path, *LAYOUTS[layout])
    (root / "notes.txt").write_text("a stray file")
    (root / "a").mkdir(exist_ok=True)
    lay_out(root, "a/1.png")
    (root / "a" / "labels.csv").write_text("a stray file")
    assert read(root) == reference(root)
    assert FolderSource(str(root), SIDE)[0][0].shape == (3, SIDE, SIDE)


def test_names_that_are_no_text(tmp_path):
    """A file system knows bytes alone."""
    lay_out(tmp_path, "a/1.png")
    os.rename(os.fsencode(tmp_path / "a" / "1.png"), os.fsencode(tmp_path / "a") + b"/\xff.png")
    source = FolderSource(str(tmp_path), SIDE)
    assert source[0][1] == 0
    assert len(source.fingerprint()) == 64


@pytest.mark.reliability(22, counts="layouts")
def test_an_empty_class_is_named(tmp_path):
    lay_out(tmp_path, "a/1.png", "nothing here/", "b/1.png")
    with pytest.raises(ValueError, match=r"nothing here holds no images"):
        FolderSource(str(tmp_path), SIDE)


def test_images_beside_class_folders_are_refused_or_read(tmp_path):
    lay_out(tmp_path, "a/1.png", "b/1.png", "1.png", "2.png")
    with pytest.raises(
        ValueError, match=r"2 images beside its class folders \(1\.png, 2\.png\): .*class_folders: false"
    ):
        FolderSource(str(tmp_path), SIDE)
    everything = [(name, "all") for name in ("1.png", "2.png", "a/1.png", "b/1.png")]
    assert read(tmp_path, class_folders=False) == everything
    assert read(tmp_path, class_folders=False, exclude=("1.png",)) == everything[1:2]


def test_linked_folders_and_files_are_read(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    lay_out(root, "a/1.png", "b/1.png")
    lay_out(elsewhere, "deep/2.png", "3.png")
    (root / "linked").symlink_to(elsewhere)
    (root / "a" / "deep").symlink_to(elsewhere / "deep")
    (root / "b" / "file.png").symlink_to(elsewhere / "3.png")
    assert read(root) == [
        ("a/1.png", "a"),
        ("a/deep/2.png", "a"),
        ("b/1.png", "b"),
        ("b/file.png", "b"),
        ("linked/3.png", "linked"),
        ("linked/deep/2.png", "linked"),
    ]


@pytest.mark.reliability(22, counts="layouts")
def test_loops_of_links_end(tmp_path):
    """Up, to itself, and round; a link to the root or above is no class, which is said."""
    root = lay_out(tmp_path / "root", "a/x/1.png", "b/2.png")
    (root / "a" / "x" / "up").symlink_to(root / "a")
    (root / "a" / "self").symlink_to(root / "a" / "self")
    (root / "a" / "self.png").symlink_to(root / "a" / "self.png")
    (root / "b" / "to-a").symlink_to(root / "a")
    (root / "a" / "to-b").symlink_to(root / "b")
    (root / "again").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="leads back above itself and is no class") as caught:
        found = read(root)
    assert {str(warning.message).split(": ")[1].split()[0] for warning in caught} == {"again", "above"}
    assert found == [
        ("a/self.png", "a"),
        ("a/to-b/2.png", "a"),
        ("a/x/1.png", "a"),
        ("b/2.png", "b"),
        ("b/to-a/self.png", "b"),
        ("b/to-a/x/1.png", "b"),
    ]


def test_a_link_to_nothing_is_reported_when_it_is_read(tmp_path):
    lay_out(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    source = FolderSource(str(tmp_path), SIDE)
    assert len(source.fingerprint()) == 64
    with pytest.raises(ValueError, match=r"1 of 2 images is unreadable: .*2\.png"):
        source[1]
    with pytest.warns(UserWarning, match="skipped"):
        assert FolderSource(str(tmp_path), SIDE, on_error="skip")[1][1] == 0


def test_formats_that_are_not_read_are_warned_of(tmp_path):
    lay_out(tmp_path, "a/1.png")
    (tmp_path / "a" / "2.heic").write_bytes(b"...")
    (tmp_path / "a" / "labels.txt").write_text("1 cat")
    with pytest.warns(UserWarning, match=r"1 images in formats that are not read are left out \(.*2\.heic\)"):
        FolderSource(str(tmp_path), SIDE)
    (tmp_path / "a" / "2.heic").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderSource(str(tmp_path), SIDE)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    lay_out(tmp_path, "a/1.png", "b/1.png")
    scan = os.scandir

    def refusing(folder):
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match=r"image folder .*b cannot be read \(Permission denied\)"):
        FolderSource(str(tmp_path), SIDE)


@pytest.mark.filterwarnings("ignore:.*biased upward")
@pytest.mark.parametrize("suffix", ["bmp", "ppm", "tiff"])
def test_uncompressed_images_are_told_apart(suffix, tmp_path):
    """All are of one size in bytes: held-out images passed for those of the training, and had their statistics."""
    sources = []
    for level, name in enumerate(("train", "validation")):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (SIDE, SIDE), (level, number, 0)).save(tmp_path / name / f"{number}.{suffix}")
        sources.append(FolderSource(str(tmp_path / name), SIDE))
    assert sources[0].fingerprint() != sources[1].fingerprint()
    assert not are_same_images(*sources)
    shutil.copytree(tmp_path / "train", tmp_path / "copy")
    assert are_same_images(sources[0], FolderSource(str(tmp_path / "copy"), SIDE))
    features = [
        reference_to_feature_set(str(each.root), SIDE, "efficientnet_lite0", cache=tmp_path / "cache")[0].features
        for each in sources
    ]
    assert not torch.equal(*features)


def test_the_fingerprint_is_of_what_is_read(tmp_path):
    """Unchanged for a folder of plain classes; another one where files, classes or sizes differ."""
    lay_out(tmp_path, "a/1.png", "b/1.png")
    known = {FolderSource(str(tmp_path), SIDE).fingerprint()}
    for change in (
        lambda: FolderSource(str(tmp_path), SIDE, class_folders=False),
        lambda: FolderSource(str(tmp_path), 2 * SIDE),
        lambda: FolderSource(str(lay_out(tmp_path, "b/2.jfif")), SIDE),
        lambda: FolderSource(str(tmp_path), SIDE, exclude=("1.png",), class_folders=False),
    ):
        fingerprint = change().fingerprint()
        assert fingerprint not in known
        known.add(fingerprint)
