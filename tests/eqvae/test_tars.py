"""Tar files: labels from three places, odd members, damage; crops and skipped images of all encoded sources."""

import io
import json
import tarfile

import pytest
import torch
from PIL import Image

from eqvae.data import FolderSource, ImageDataModule, ShapesSource, TarSource, open_source
from tests.eqvae.test_images import encoded


def image(level: int, size=(20, 20)) -> bytes:
    return encoded(Image.new("RGB", size, (level,) * 3))


def pack(path, members) -> str:
    """A tar file of (name, content) pairs; a TarInfo goes in as it is."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def content_of(source) -> list[tuple[int, int]]:
    return [(int(image[0, 0, 0]), label) for image, label in (source[i] for i in range(len(source)))]


def test_classes_of_cls_json_and_folders(tmp_path):
    pack(
        tmp_path / "a-0.tar",
        [("x/1.png", image(1)), ("x/1.cls", b"3"), ("x/2.seg.png", image(2)), ("x/2.cls", b"0")],
    )
    pack(tmp_path / "a-1.tar", [("3.json", json.dumps({"label": 1}).encode()), ("3.png", image(3))])
    source = open_source(str(tmp_path / "a-*.tar"), 16)
    assert isinstance(source, TarSource)
    assert content_of(source) == [(1, 3), (2, 0), (3, 1)]
    assert (source.num_classes, source.class_names) == (4, None)
    folders = TarSource(pack(tmp_path / "b.tar", [("dog/1.png", image(7)), ("cat/1.png", image(8))]), 16)
    assert (content_of(folders), folders.class_names) == ([(7, 1), (8, 0)], ["cat", "dog"])
    assert TarSource(pack(tmp_path / "c.tar", [("1.png", image(7))]), 16).class_names == ["all"]
    assert folders.fingerprint() != source.fingerprint()


def test_an_image_beside_the_class_folders_is_refused(tmp_path):
    """It would be a class of its own, the first one, and shift all others."""
    path = pack(tmp_path / "a.tar", [("cat/1.png", image(1)), ("stray.png", image(2))])
    with pytest.raises(ValueError, match=r"a\.tar: stray\.png lies beside the class folders: put it into one"):
        TarSource(path, 16)


def test_images_of_one_size_are_told_apart(tmp_path):
    paths = []
    for level, name in enumerate(("train", "validation"), start=7):
        (tmp_path / name).mkdir()
        paths.append(pack(tmp_path / name / "0.tar", [(f"{number}.png", image(level)) for number in range(3)]))
    first, second = (TarSource(path, 16) for path in paths)
    assert len({len(image(level)) for level in (7, 8)}) == 1
    assert first.fingerprint() != second.fingerprint()


def test_names_of_any_bytes_have_a_fingerprint(tmp_path):
    source = TarSource(pack(tmp_path / "a.tar", [(b"cat/\xff.png".decode(errors="surrogateescape"), image(1))]), 16)
    assert len(source.fingerprint()) == 64


def test_odd_members_are_left_out(tmp_path):
    members = [
        ("/absolute.png", image(1)),
        ("../up.png", image(2)),
        ("a/../../up.png", image(3)),
        (special("link.png", tarfile.SYMTYPE), b""),
        (special("hard.png", tarfile.LNKTYPE), b""),
        (special("device.png", tarfile.CHRTYPE), b""),
        ("._hidden.png", image(4)),
        ("notes.txt", b"text"),
        ("good.png", image(5)),
    ]
    before = set(tmp_path.iterdir())
    path = pack(tmp_path / "odd.tar", members)
    assert content_of(TarSource(path, 16)) == [(5, 0)]
    assert {entry.name for entry in set(tmp_path.iterdir()) - before} == {"odd.tar"}


def test_formats_that_are_not_read_are_warned_of(tmp_path):
    """As of a folder; a second format of an image that is read is none that is left out."""
    members = [(f"{n}.{kind}", image(n)) for n, kind in enumerate(("png", "heic", "jp2"))]
    path = pack(tmp_path / "a.tar", [*members, *((f"{n}.cls", b"0") for n in range(3)), ("0.heic", b"x")])
    with pytest.warns(
        UserWarning, match=r"2 images in formats that are not read are left out \(\S+: 1\.heic, .*2\.jp2\)"
    ):
        assert content_of(TarSource(path, 16)) == [(0, 0)]


def test_what_is_wrong_with_a_tar_is_said_in_one_line(tmp_path):
    pack(tmp_path / "empty.tar", [("notes.txt", b"text")])
    pack(tmp_path / "twice.tar", [("1.png", image(1)), ("1.jpg", image(2))])
    pack(tmp_path / "half.tar", [("1.png", image(1)), ("1.cls", b"0"), ("2.png", image(1))])
    pack(tmp_path / "text.tar", [("1.png", image(1)), ("1.cls", b"dog")])
    (tmp_path / "zipped.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    expected = {
        "empty.tar": "holds no images",
        "twice.tar": "1.jpg and 1.png are one sample",
        "half.tar": "2.png has no class",
        "text.tar": "1.cls holds no class number",
        "zipped.tar": "not a readable, uncompressed tar",
        "none.tar": "no tar file matches",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message) as error:
            TarSource(str(tmp_path / name), 16)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_damaged_image_stops_or_is_skipped(tmp_path):
    members = [(f"{n}.png", b"broken" if n == 2 else image(n)) for n in range(5)]
    path = pack(tmp_path / "a.tar", [*members, *((f"{n}.cls", str(n).encode()) for n in range(5))])
    with pytest.raises(ValueError, match=r"a\.tar: 2\.png is not a readable image"):
        content_of(TarSource(path, 16))
    source = TarSource(path, 16, on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped image 2: .*2\.png"):
        assert content_of(source) == [(0, 0), (1, 1), (3, 3), (3, 3), (4, 4)]
    content_of(source)
    assert source.num_skipped == 1
    with pytest.warns(UserWarning, match="1 of 5 train images could not be read"):
        ImageDataModule(source, validation=ShapesSource(2, 16)).teardown("fit")
    nothing = TarSource(pack(tmp_path / "b.tar", [("1.png", b"broken")]), 16, on_error="skip")
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(ValueError, match="none of the 1 images"):
        nothing[0]
    with pytest.raises(ValueError, match="on_error 'ignore' is unknown"):
        TarSource(path, 16, on_error="ignore")


def test_skipped_images_of_loader_processes_are_counted(tmp_path):
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(b"" if n == 3 else image(n))
    source = FolderSource(str(tmp_path), 16, on_error="skip")
    data = ImageDataModule(source, evaluation_batch_size=2, num_workers=1)
    pixels = torch.cat([batch["image"][:, 0, 0, 0] for batch in data.sequential_loader("train")])
    assert ((pixels + 1) * 127.5).round().int().tolist() == [0, 1, 2, 4, 4, 5]
    assert source.num_skipped == 1


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        FolderSource(str(tmp_path), 16)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match="holds no images"):
        FolderSource(str(tmp_path), 16)
