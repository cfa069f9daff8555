"""Shards by range and address: fetched once, whole or not at all, compared with checksums, read like local ones."""

import functools
import hashlib
import http.server
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from eqvae.data import TarSource, open_source
from eqvae.data.remote import expand_ranges, find_files
from eqvae.network import is_reachable
from tests.eqvae.test_tars import content_of, image, pack
from twostage.parts.contents import with_contents


@pytest.fixture
def shards(tmp_path) -> Path:
    """Three shards of two images each."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        pack(folder / f"a-{shard:03}.tar", [(f"{2 * shard + n}.png", image(2 * shard + n)) for n in range(2)])
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and keeps the names it is asked for."""

    asked: list[str] = []  # noqa: RUF012 (each server has a class of its own)
    cut_off = ""  # a name of which only half is sent

    def do_GET(self):
        self.asked.append(Path(self.path).name)
        if Path(self.path).name != self.cut_off:
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(shards, monkeypatch):
    """(address of the folder of shards, handler) of a web server in this process."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Handler,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=shards)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()
        thread.join()


ALL = [(level, 0) for level in range(6)]


def test_ranges_keep_their_zeros_and_order():
    assert expand_ranges("a-{008..011}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]
    assert expand_ranges("{0..1}/{1..2}.tar") == ["0/1.tar", "0/2.tar", "1/1.tar", "1/2.tar"]
    assert expand_ranges("a-*.tar") == ["a-*.tar"]
    for pattern in ("a-{3..1}.tar", "a-{0..999999999}.tar", "{0..999}-{0..999}.tar"):
        with pytest.raises(ValueError, match="stands for no shards, or for more than 100000"):
            expand_ranges(pattern)


def test_ranges_of_files_here_are_read_in_place(shards, tmp_path):
    assert content_of(TarSource(f"{shards}/a-{{000..002}}.tar", 16)) == ALL
    assert content_of(open_source(f"file://{shards}/a-{{000..002}}.tar", 16)) == ALL
    with pytest.raises(ValueError, match=r"no tar file matches .*a-003\.tar"):
        TarSource(f"{shards}/a-{{000..003}}.tar", 16)
    with pytest.raises(ValueError, match="lies here: cache_folder and checksums are for files that are fetched"):
        TarSource(f"{shards}/a-*.tar", 16, cache_folder=str(tmp_path))


def test_a_sweep_counts_ranges_of_files_by_their_sizes(shards):
    settings = {"files": f"{shards}/a-{{000..002}}.tar"}
    before = with_contents(settings)
    pack(shards / "a-001.tar", [("5.png", image(9)), ("6.png", image(8)), ("7.png", image(7))])
    changed = with_contents({"files": f"{shards}/./a-{{000..002}}.tar"})
    assert changed["files"]["listing"] != before["files"]["listing"]
    assert with_contents({"files": "https://a.org/{0..1}.tar"}) == {"files": "https://a.org/{0..1}.tar"}


def test_shards_are_fetched_once(server, tmp_path):
    address, handler = server
    source = TarSource(f"{address}/a-{{000..002}}.tar", 16, cache_folder=str(tmp_path / "cache"))
    assert content_of(source) == ALL
    assert sorted(handler.asked) == ["a-000.tar", "a-001.tar", "a-002.tar"]
    again = TarSource(f"{address}/a-{{000..002}}.tar", 16, cache_folder=str(tmp_path / "cache"))
    assert again.fingerprint() == source.fingerprint()
    assert len(handler.asked) == 3
    Path(source.paths[1]).unlink()
    TarSource(f"{address}/a-{{000..002}}.tar", 16, cache_folder=str(tmp_path / "cache"))
    assert handler.asked[3:] == ["a-001.tar"]


def test_a_missing_shard_is_named_and_the_others_stay(server, tmp_path):
    address, _ = server
    with pytest.raises(ValueError, match=r"shard http://.*/a-003\.tar is missing: check its name") as error:
        TarSource(f"{address}/a-{{000..003}}.tar", 16, cache_folder=str(tmp_path / "cache"))
    assert "\n" not in str(error.value)
    assert len(list((tmp_path / "cache").rglob("a-*.tar"))) == 3


def test_half_a_shard_leaves_nothing(server, tmp_path):
    address, handler = server
    handler.cut_off = "a-001.tar"
    with pytest.raises(ValueError, match=r"shard http://.*/a-001\.tar cannot be fetched"):
        find_files(f"{address}/a-{{000..002}}.tar", "tar", str(tmp_path / "cache"))
    assert {path.name for path in (tmp_path / "cache").rglob("*.tar")} == {"a-000.tar", "a-002.tar"}
    assert not list((tmp_path / "cache").rglob(".incomplete-*"))
    handler.cut_off = ""
    assert len(find_files(f"{address}/a-{{000..002}}.tar", "tar", str(tmp_path / "cache"))) == 3


def test_checksums_are_compared_and_what_differs_goes(shards, tmp_path):
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(shards.iterdir())]
    sums, cache = tmp_path / "SHA256SUMS", tmp_path / "cache"
    sums.write_text("".join(lines))
    pattern = f"file://{shards}/a-{{000..002}}.tar"
    assert content_of(TarSource(pattern, 16, cache_folder=str(cache), checksums=str(sums))) == ALL
    changed = next(cache.rglob("a-001.tar"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    os.utime(changed, ns=(time.time_ns() + 10**9,) * 2)
    with pytest.raises(ValueError, match=r"a-001\.tar has sha256 \w{64}, expected \w{64}: it was removed here"):
        find_files(pattern, "tar", str(cache), str(sums))
    find_files(pattern, "tar", str(cache), str(sums))
    sums.write_text("".join([*lines[:2], f"{'0' * 64}  a-002.tar\n"]))
    with pytest.raises(ValueError, match=r"a-002\.tar has sha256 \w{64}, expected 0{64}: it was removed here"):
        find_files(pattern, "tar", str(cache), str(sums))
    assert {path.name for path in cache.rglob("*.tar")} == {"a-000.tar", "a-001.tar"}
    sums.write_text("".join(lines[:2]))
    with pytest.raises(ValueError, match=r"have no line for a-002\.tar"):
        find_files(pattern, "tar", str(cache), str(sums))
    sums.write_text("\n")
    with pytest.raises(ValueError, match=r"checksums .* has no line"):
        find_files(pattern, "tar", str(cache), str(sums))
    sums.write_text("a-002.tar\n")
    with pytest.raises(ValueError, match="is not as sha256sum writes it"):
        find_files(pattern, "tar", str(cache), str(sums))


def test_a_shard_that_changed_here_is_not_taken(shards, tmp_path):
    """Neither accepted nor recorded anew, also without checksums; one that was only touched stays."""
    pattern, cache = f"file://{shards}/a-{{000..001}}.tar", str(tmp_path / "cache")
    first = Path(find_files(pattern, "tar", cache)[0])
    os.utime(first, ns=(1, 1))
    find_files(pattern, "tar", cache)
    assert (first.stat().st_mtime_ns, first.exists()) == (1, True), "not fetched again"
    first.write_bytes(b"x" + first.read_bytes()[1:])
    os.utime(first, ns=(0, 0))  # older than its record
    with pytest.raises(ValueError, match=r"a-000\.tar has sha256 \w{64}, expected \w{64}: it was removed here"):
        find_files(pattern, "tar", cache)
    assert content_of(TarSource(pattern, 16, cache_folder=cache)) == ALL[:4]


def test_the_query_of_an_address_is_no_part_of_its_name(server, shards, tmp_path):
    address, _ = server
    (tmp_path / "SUMS").write_text(f"{hashlib.sha256((shards / 'a-000.tar').read_bytes()).hexdigest()}  a-000.tar\n")
    pattern = f"{address}/a-{{000..000}}.tar?token=1"
    assert len(find_files(pattern, "tar", str(tmp_path / "cache"), str(tmp_path / "SUMS"))) == 1


def test_the_cache_folder_of_the_user_is_the_default(server, tmp_path, monkeypatch):
    address, _ = server
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of-the-user"))
    (path,) = find_files(f"{address}/a-000.tar", "tar")
    assert Path(path).is_relative_to(tmp_path / "of-the-user" / "eqvae" / "shards")
    shutil.rmtree(tmp_path / "of-the-user")


def test_a_server_that_does_not_answer_is_named_at_once(tmp_path):
    is_reachable.cache_clear()
    with pytest.raises(ValueError, match=r"shard http://127\.0\.0\.1:1/a-0\.tar cannot be fetched: .* not answer"):
        find_files("http://127.0.0.1:1/a-{0..2}.tar", "tar", str(tmp_path))
    with pytest.raises(ValueError, match="write a range"):
        find_files("https://a.org/a-*.tar", "tar", str(tmp_path))
