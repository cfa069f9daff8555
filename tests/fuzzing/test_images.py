"""Tar and npz files of images, and npz of statistics: read to the end, or refused with the file's name."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eqvae.data import TarSource
from eqvae.data.npz import NpzSource, npz_arrays
from eqvae.evaluation.inputs import open_samples, stored_statistics
from tests.eqvae.test_images import encoded
from tests.eqvae.test_tars import pack
from tests.fuzzing.mutations import ODD_TEXTS, ODD_VALUES, REFUSED, changed_bytes, fuzzing, outcome

SIDE = 8
IMAGES = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


def all_of(source) -> tuple[torch.Tensor, list[int], str]:
    """Every image, label and the fingerprint of a source."""
    images, labels = zip(*(source[index] for index in range(len(source))), strict=True)
    assert all(image.dtype == torch.uint8 and image.shape == (3, SIDE, SIDE) for image in images)
    assert all(0 <= label < source.num_classes for label in labels)
    return torch.stack(images), list(labels), source.fingerprint()


def png(number: int) -> bytes:
    return encoded(Image.fromarray(IMAGES[number % 4]))


MEMBERS = [("a/0.png", png(0)), ("a/0.cls", b"1"), ("b/1.png", png(1)), ("b/1.json", b'{"label": 0}')]
LABELS = [
    b"",
    b"-1",
    b"1e9",
    b"99999999999999999999",
    b"nan",
    b"\xff\xfe",
    b"0x1",
    b"[" * 5000,
    b"{}",
    b"[1]",
    b"null",
    b"\xef\xbb\xbf1",
]


@st.composite
def members(draw) -> list[tuple[object, bytes]]:
    """Members of a tar file of which some are others, elsewhere, twice or special."""
    found: list[tuple[object, bytes]] = list(MEMBERS)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(found) - 1))
        name, content = found[at]
        how = draw(st.sampled_from(["name", "label", "json", "content", "twice", "away", "special"]))
        if how == "name":
            names = ["../up.png", "/abs.png", "0.png", "b/1.PNG", ".png", "a/0.x.png", "a\\0.png", *ODD_TEXTS]
            found[at] = (draw(st.sampled_from([each for each in names if "\0" not in each])), content)
        elif how == "label":
            found.append(("a/0.cls", draw(st.sampled_from(LABELS))))
        elif how == "json" and draw(st.booleans()):
            found.append(("b/1.json", draw(st.sampled_from(LABELS))))
        elif how == "json":
            odd = draw(st.sampled_from(ODD_VALUES))
            about = draw(st.sampled_from([odd, {"label": odd}, {"cls": odd}, {"label": None, "cls": odd}]))
            found.append(("b/1.json", json.dumps(about).encode()))
        elif how == "content":
            found[at] = (name, draw(changed_bytes(content)))
        elif how == "twice":
            found.append(found[at])
        elif how == "away":
            del found[at]
        else:
            info = tarfile.TarInfo(str(name))
            info.type = draw(st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]))
            info.linkname = "a/0.png"
            found[at] = (info, b"")
        if not found:
            break
    return found


@fuzzing(100)
@given(content=members())
def test_a_tar_of_other_members_is_read_or_refused(content, tmp_path):
    path = pack(tmp_path / "a.tar", content)
    found = outcome(lambda: all_of(TarSource(path, SIDE)), path)
    assert found is REFUSED or len(found[1]) >= 1


@fuzzing(100)
@given(draw=st.data())
def test_a_tar_of_other_bytes_is_read_or_refused(tmp_path, draw):
    path = Path(pack(tmp_path / "a.tar", MEMBERS))
    path.write_bytes(draw.draw(changed_bytes(path.read_bytes())))
    found = outcome(lambda: all_of(TarSource(str(path), SIDE)), path)
    assert found is REFUSED or len(found[1]) == 2, "an image was lost without a word"


def stored(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def statistics(**changes: np.ndarray) -> dict[str, np.ndarray]:
    each = {"mu": np.zeros(4), "sigma": np.eye(4), "mu_s": np.zeros(3), "sigma_s": np.eye(3)}
    return each | changes


SAMPLES = stored(arr_0=IMAGES)
STATISTICS = stored(**statistics())


@fuzzing(100)
@given(draw=st.data())
def test_an_npz_of_images_of_other_bytes_is_the_same_or_refused(tmp_path, draw):
    """The archive has a checksum of every member: no changed pixel is taken for what was written."""
    path = tmp_path / "a.npz"
    path.write_bytes(draw.draw(changed_bytes(SAMPLES)))
    found = outcome(lambda: all_of(NpzSource(path, SIDE))[0], path)
    assert found is REFUSED or torch.equal(found.permute(0, 2, 3, 1), torch.from_numpy(IMAGES))
    outcome(lambda: open_samples(str(path), None), path)


@fuzzing(100)
@given(draw=st.data())
def test_an_npz_of_statistics_of_other_bytes_is_the_same_or_refused(tmp_path, draw):
    path = tmp_path / "a.npz"
    path.write_bytes(draw.draw(changed_bytes(STATISTICS)))
    found = outcome(lambda: stored_statistics(str(path)), path)
    if found is not REFUSED and None not in found:
        for each, width in zip(found, (4, 3), strict=True):
            assert np.array_equal(each["mu"], np.zeros(width))
            assert np.array_equal(each["sigma"], np.eye(width))


HEADERS = [
    {"descr": "|u1", "fortran_order": False, "shape": (10**12, SIDE, SIDE, 3)},
    {"descr": "|u1", "fortran_order": False, "shape": (-4, SIDE, SIDE, 3)},
    {"descr": "|u1", "fortran_order": False, "shape": (4, 10**6, 10**6, 3)},
    {"descr": "|u1", "fortran_order": False, "shape": (4, 0, 0, 3)},
    {"descr": "|u1", "fortran_order": False, "shape": (0, SIDE, SIDE, 3)},
    {"descr": "|u1", "fortran_order": False, "shape": (5, SIDE, SIDE, 3)},
    {"descr": "|u1", "fortran_order": False, "shape": (3, SIDE, SIDE, 3)},
    {"descr": "|u1", "fortran_order": True, "shape": (4, SIDE, SIDE, 3)},
    {"descr": "<f4", "fortran_order": False, "shape": (1, SIDE, SIDE, 3)},
    {"descr": "|O", "fortran_order": False, "shape": (4, SIDE, SIDE, 3)},
    {"descr": [("a", "|u1")], "fortran_order": False, "shape": (4, SIDE, SIDE, 3)},
]


@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_an_npz_that_claims_other_images_than_it_holds_is_refused(tmp_path, header):
    path, member = tmp_path / "a.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", member.getvalue() + IMAGES.tobytes())
    assert outcome(lambda: all_of(NpzSource(path, SIDE)), path) is REFUSED


ARRAYS = st.sampled_from(
    [np.zeros(n) for n in (0, 3, 4, 5)]
    + [np.full(4, value) for value in (np.nan, np.inf, 1e308)]
    + [
        np.eye(4)[:3],
        np.eye(4, dtype=np.int64),
        np.eye(4) * np.nan,
        np.array("x"),
        np.array(1.0),
        np.zeros((4, 4), "f2"),
    ]
    + [-np.eye(4), np.arange(16.0).reshape(4, 4), np.zeros((4, 4, 1)), np.array([{}] * 4), np.zeros(4, "c16")]
)


@fuzzing(100)
@given(changes=st.lists(st.tuples(st.sampled_from(["mu", "sigma", "mu_s", "sigma_s"]), ARRAYS), min_size=1, max_size=2))
def test_stored_statistics_can_be_those_of_features_or_are_refused(tmp_path, changes):
    path = tmp_path / "a.npz"
    path.write_bytes(stored(**statistics(**dict(changes))))
    assert npz_arrays(path)
    found = outcome(lambda: stored_statistics(str(path)), path)
    for each in () if found is REFUSED else found:
        assert np.isfinite(each["mu"]).all()
        assert np.allclose(each["sigma"], each["sigma"].T)
        assert np.linalg.eigvalsh(each["sigma"]).min() >= -1e-6
