"""Archives made to do harm: nothing is ever unpacked, and what is too large or ambiguous is refused with the limit."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from eqvae.data import open_source
from eqvae.data.tars import MAXIMUM_MEMBER_BYTES
from eqvae.evaluation.inputs import MAXIMUM_FEATURES, stored_statistics
from tests.eqvae.test_tars import image, pack, special

SIDE, GIGABYTES = 16, 10 << 30
GOOD = ("good.png", image(5))


def array(content: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, content)
    return buffer.getvalue()


IMAGES = array(np.full((1, SIDE, SIDE, 3), 5, np.uint8))


def tar_of_zeros(path: Path) -> None:
    """A member of ten gigabytes, which take no room on a disk that knows holes."""
    info = tarfile.TarInfo("1.png")
    info.size = GIGABYTES
    with open(path, "wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + GIGABYTES + 1024)


def npz_of_zeros(path: Path) -> None:
    """Statistics of ten gigabytes: zeros, of which each part is the same few bytes."""
    part, packer = 1 << 26, zlib.compressobj(9, zlib.DEFLATED, -15)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (GIGABYTES // 8,)})
    first = packer.compress(head.getvalue()) + packer.flush(zlib.Z_FULL_FLUSH)
    repeated = packer.compress(bytes(part)) + packer.flush(zlib.Z_FULL_FLUSH)
    size = len(head.getvalue()) + GIGABYTES
    packed = len(first) + GIGABYTES // part * len(repeated) + len(packer.flush())
    # The archive's directory is written by hand: 64-bit sizes in the extra field, the checksum left open.
    sizes = struct.pack("<HHQQ", 1, 16, size, packed)
    name = b"mu.npy"
    common = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(sizes))
    with open(path, "wb") as file:
        file.write(b"PK\x03\x04" + common + name + sizes + first + repeated * (GIGABYTES // part))
        file.write(b"\x03\x00")  # the empty last block
        place = file.tell()
        file.write(b"PK\x01\x02" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name + sizes)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, file.tell() - place, place, 0))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sigma.npy", array(np.eye(2)))


def npz(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


def linked_folder(path: Path) -> None:
    """A link to a folder outside, and a file that would be written through it."""
    link = special("link", tarfile.SYMTYPE)
    link.linkname = str(path.parent / "outside")
    pack(path, [(link, b""), ("link/through.png", image(5))])


ARCHIVES = {  # name -> how it is made, and what is said of it: None where the good image alone is read
    "absolute.tar": (lambda path: pack(path, [(f"{path.parent}/outside/1.png", image(1)), GOOD]), None),
    "parent.tar": (lambda path: pack(path, [("../outside/1.png", image(1)), GOOD]), None),
    "symlink.tar": (lambda path: pack(path, [(special("1.png", tarfile.SYMTYPE), b""), GOOD]), None),
    "folder-link.tar": (linked_folder, None),
    "hardlink.tar": (lambda path: pack(path, [(special("1.png", tarfile.LNKTYPE), b""), GOOD]), None),
    "device.tar": (lambda path: pack(path, [(special("1.png", tarfile.CHRTYPE), b""), GOOD]), None),
    "duplicate.tar": (lambda path: pack(path, [GOOD, GOOD]), r"good\.png and good\.png are one sample"),
    "zeros.tar": (tar_of_zeros, f"1.png has {GIGABYTES} bytes, above {MAXIMUM_MEMBER_BYTES}"),
    "absolute.npz": (lambda path: npz(path, (f"{path.parent}/outside/1.npy", IMAGES), ("arr_0.npy", IMAGES)), None),
    "parent.npz": (lambda path: npz(path, ("../outside/1.npy", IMAGES), ("arr_0.npy", IMAGES)), None),
    "duplicate.npz": (lambda path: npz(path, ("arr_0.npy", IMAGES), ("arr_0.npy", IMAGES)), "holds arr_0 twice"),
    "zeros.npz": (npz_of_zeros, f"at most {MAXIMUM_FEATURES} features"),
}


@pytest.mark.reliability(25, counts="archives")
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_writes_nothing(name, tmp_path):
    make, refusal = ARCHIVES[name]
    (tmp_path / "outside").mkdir()
    make(tmp_path / name)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    read = stored_statistics if name == "zeros.npz" else lambda where: open_source(where, SIDE)
    if refusal is None:
        source = read(str(tmp_path / name))
        assert [int(source[index][0].max()) for index in range(len(source))] == [5]
    else:
        with pytest.raises(ValueError, match=refusal) as error:
            read(str(tmp_path / name))
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
