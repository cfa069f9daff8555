"""Shards that lie elsewhere: each is fetched once, whole or not at all, into a folder here, and read from there."""

import hashlib
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec
from huggingface_hub import constants
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eqvae.data.encoded import matching_files
from eqvae.errors import first_line
from eqvae.files import sha256_of_file, write_atomically
from eqvae.locks import Lock
from eqvae.network import is_reachable

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
CHECKSUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")  # as sha256sum writes it
MAXIMUM_SHARDS = 100_000  # of a pattern; more is a slip
FETCHED_AT_ONCE = 4
READ_SECONDS = 60.0  # without a byte, after which a server is given up
CHECKSUM_SUFFIX = ".sha256"


def is_pattern_of_shards(name: str) -> bool:
    """Whether a text names files by address or by a range of numbers, and not by a path or glob alone."""
    return "://" in name or RANGE.search(name) is not None


def expand_ranges(pattern: str) -> list[str]:
    """The names that a pattern such as `shards-{000000..000009}.tar` stands for, in order; zeros in front are kept.

    Raises:
        ValueError: for a range that falls, or more than 100,000 names.
    """
    ranges = [(int(found[1]), int(found[2])) for found in RANGE.finditer(pattern)]
    if not 0 < math.prod(max(0, last + 1 - first) for first, last in ranges) <= MAXIMUM_SHARDS:
        raise ValueError(f"{pattern} stands for no shards, or for more than {MAXIMUM_SHARDS}: write {{first..last}}")
    return _expanded(pattern)


def _expanded(pattern: str) -> list[str]:
    found = RANGE.search(pattern)
    if found is None:
        return [pattern]
    before, after, width = pattern[: found.start()], _expanded(pattern[found.end() :]), len(found[1])
    numbers = range(int(found[1]), int(found[2]) + 1)
    return [f"{before}{number:0{width}}{rest}" for number in numbers for rest in after]


def find_files(pattern: str, kind: str, cache_folder: str | None = None, checksums: str | None = None) -> list[str]:
    """Paths here of the files that a path, a glob, a range of paths or a range of addresses names.

    Args:
        pattern: a path or glob; or with `{000000..000009}` a range, all of which must be there; `file://`, `https://`
            and `hf://datasets/OWNER/NAME/PATH` addresses likewise, and others that fsspec has a package for.
        kind: of the files, for messages: "tar".
        cache_folder: where fetched files are kept; null: `eqvae/shards` in the user's cache folder (XDG_CACHE_HOME).
            Files of `file://` addresses are read in place unless a folder is named.
        checksums: file of lines as `sha256sum` writes them, which fetched files are compared with, by name; one that
            has changed here since is read through again, with or without.

    Raises:
        ValueError: naming the file that is missing, cannot be fetched, or differs from its checksum.
    """
    if "*" in pattern and "://" in pattern:
        raise ValueError(f"{pattern}: addresses cannot be listed: write a range, as {{000000..000009}}, in place of *")
    names = expand_ranges(pattern)
    in_place = all("://" not in name or (name.startswith("file://") and cache_folder is None) for name in names)
    if not in_place:
        return [str(path) for path in fetch_shards(names, _cache_folder(cache_folder), checksums)]
    if cache_folder is not None or checksums is not None:
        raise ValueError(f"{pattern} lies here: cache_folder and checksums are for files that are fetched")
    return [path for name in names for path in matching_files(local_path(name), kind)]


def fetch_shards(urls: list[str], folder: Path, checksums: str | None = None) -> list[Path]:
    """Files of these addresses below `folder`; what is there already is not asked for again.

    Raises:
        ValueError: naming the address that cannot be fetched, or whose content differs from its checksum or from what
            was fetched.
    """
    expected = _read_checksums(checksums) if checksums else {}
    if missing := [url for url in urls if expected and _name(url) not in expected]:
        raise ValueError(f"checksums {checksums} have no line for {_name(missing[0])}: add it")
    if num_absent := sum(not _is_fetched(_place(url, folder)) for url in urls):
        rank_zero_info(f"fetching {num_absent} of {len(urls)} shards into {folder}")
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        found = [pool.submit(_fetch, url, folder, expected.get(_name(url))) for url in urls]
        try:
            return [each.result() for each in found]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(url: str, folder: Path, sha256: str | None) -> Path:
    """One file, fetched by one process while others wait for it."""
    place = _place(url, folder)
    with Lock(place.with_name(f"{place.name}.lock"), f"shard {url}", math.inf):
        if not _is_fetched(place):
            _download(url, place)
            _write_record(place, sha256_of_file(place))
        recorded, is_unchanged = _read_record(place)
        found, expected = recorded if is_unchanged else sha256_of_file(place), sha256 or recorded
        if found != expected:
            _record(place).unlink()
            place.unlink()
            raise ValueError(
                f"shard {url} has sha256 {found}, expected {expected}: it was removed here; fetch it again"
            )
        if not is_unchanged:
            _write_record(place, found)
    return place


def _download(url: str, place: Path) -> None:
    server = constants.ENDPOINT if url.startswith("hf://") else url
    if not is_reachable(server):
        raise ValueError(f"shard {url} cannot be fetched: {urlsplit(server).netloc} does not answer")
    try:
        system, path = fsspec.url_to_fs(url, **_options(url))
        size = system.info(path).get("size")
        write_atomically(place, lambda file: system.get_file(path, file))
    except FileNotFoundError:
        raise ValueError(f"shard {url} is missing: check its name and the range of numbers") from None
    except Exception as error:  # every kind of server has errors of its own
        raise ValueError(f"shard {url} cannot be fetched ({first_line(error)}): start again to go on from it") from None
    if size is not None and place.stat().st_size != size:
        found = place.stat().st_size
        place.unlink()
        raise ValueError(f"shard {url} has {found} bytes, its server says {size}: start again to fetch it anew")


def _options(url: str) -> dict[str, Any]:
    """For web servers: the proxy of the environment, and as long as it takes, which is five minutes otherwise."""
    if urlsplit(url).scheme not in ("http", "https"):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=READ_SECONDS, sock_read=READ_SECONDS)
    return {"client_kwargs": {"trust_env": True, "timeout": timeout}}


def _place(url: str, folder: Path) -> Path:
    """Where a file of this address lies: under its own name, which fingerprints are made of."""
    return folder / hashlib.sha256(url.encode()).hexdigest()[:16] / _name(url)


def _name(url: str) -> str:
    """Of the file, without the query of its address."""
    return PurePosixPath(urlsplit(url).path).name


def _record(place: Path) -> Path:
    return place.with_name(place.name + CHECKSUM_SUFFIX)


def _write_record(place: Path, sha256: str) -> None:
    """What a file held when it was read through, and what it then looked like from outside."""
    about = place.stat()
    write_atomically(_record(place), f"{sha256} {about.st_size} {about.st_mtime_ns}".encode())


def _read_record(place: Path) -> tuple[str, bool]:
    """The sha256 of a file that was fetched, and whether it still looks as it did then."""
    sha256, *looked = _record(place).read_text().split()
    about = place.stat()
    if not looked:  # a record of before sizes and times stood there
        return sha256, about.st_mtime_ns <= _record(place).stat().st_mtime_ns
    return sha256, looked == [str(about.st_size), str(about.st_mtime_ns)]


def _is_fetched(place: Path) -> bool:
    return place.is_file() and _record(place).is_file()


def _cache_folder(named: str | None) -> Path:
    if named is not None:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eqvae" / "shards"


def local_path(name: str) -> str:
    """The path that a `file://` address stands for; any other name as it is."""
    return fsspec.url_to_fs(name)[1] if name.startswith("file://") else name


def _read_checksums(file: str) -> dict[str, str]:
    """Name to sha256, of a file of lines `HEX  NAME`."""
    try:
        lines = Path(file).expanduser().read_text().splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"checksums {file} cannot be read ({first_line(error)})") from None
    found = dict(_checksum(line, file) for line in lines if line.strip())
    if not found:
        raise ValueError(f"checksums {file} has no line: give one for each shard, or no file")
    return found


def _checksum(line: str, file: str) -> tuple[str, str]:
    found = CHECKSUM_LINE.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"checksums {file}: {line[:80]!r} is not as sha256sum writes it, 64 digits and a name")
    return PurePosixPath(found[2]).name, found[1].lower()
