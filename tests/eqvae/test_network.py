"""Without a network: known within seconds, cached files are used, and a mistyped folder is never asked for."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from huggingface_hub import constants

from eqvae import network
from eqvae.autoencoders import load_autoencoder, loading
from eqvae.network import is_reachable, quick_hub
from eqvae.weights import load_weights
from tests.eqvae.tiny import tiny_autoencoder

ASK = """
import sys, time
from eqvae.autoencoders import load_autoencoder
started = time.monotonic()
try:
    load_autoencoder("owner/name")
except ValueError as error:
    print(f"{time.monotonic() - started:.2f} {error}")
"""


@pytest.fixture(autouse=True)
def _ask_anew(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    is_reachable.cache_clear()
    yield
    is_reachable.cache_clear()


@pytest.fixture
def server():
    """The port of a server that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def no_answer(monkeypatch):
    monkeypatch.setattr(network, "is_reachable", lambda url: False)
    monkeypatch.setattr("eqvae.weights.is_reachable", lambda url: False)


def test_a_server_or_the_proxy_to_it_is_reached(server, monkeypatch):
    assert is_reachable(f"http://127.0.0.1:{server}/x")
    assert not is_reachable("http://127.0.0.1:1/x")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server}")
    assert is_reachable("https://no.such.server.invalid/x")
    assert is_reachable("file:///x")


def test_a_lookup_that_hangs_is_not_waited_for(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(network, "REACH_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(30))
    started = time.monotonic()
    assert not is_reachable("https://silent.invalid")
    assert time.monotonic() - started < 2
    ended.set()


@pytest.mark.reliability(30)
def test_a_hub_that_does_not_answer_is_not_asked(no_answer):
    with quick_hub() as answers:
        assert not answers
        assert constants.HF_HUB_OFFLINE
        with pytest.raises(
            ValueError, match=r"cannot be had from the hub, which does not answer.*--autoencoder"
        ) as error:
            load_autoencoder("owner/name")
    assert "model.init_args.autoencoder" in str(error.value)
    assert "\n" not in str(error.value)
    assert not constants.HF_HUB_OFFLINE


def test_what_the_hub_s_cache_holds_is_used(no_answer, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    tiny_autoencoder().save_pretrained(repository / "snapshots" / ("0" * 40))
    assert load_autoencoder("owner/name").fingerprint() == tiny_autoencoder().fingerprint()


@pytest.mark.reliability(30)
def test_weights_are_not_waited_for_either(no_answer, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights\.invalid does not answer\): give a local file as extractor_weights"):
        load_weights("https://weights.invalid/net-0123abcd.pth", None, "extractor_weights")


@pytest.mark.reliability(30)
@pytest.mark.slow
def test_a_machine_without_routes_knows_within_five_seconds(tmp_path, reached):
    isolated = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network without routes")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables |= {"HF_HOME": str(tmp_path)}
    command = [*isolated, sys.executable, "-W", "ignore", "-c", ASK]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)
    seconds, _, message = asked.stdout.partition(" ")
    assert float(seconds) < 5, asked.stderr[-2000:]
    reached.says(f"known after {float(seconds):.1f} s")
    assert message.startswith("autoencoder 'owner/name' cannot be had from the hub, which does not answer")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/tiny/autoencodr", "did you mean runs/tiny/autoencoder?"),
        ("runs/tinny/autoencoder", "did you mean runs/tiny/autoencoder?"),
        ("weights/nothing", "give a folder, a file"),
        ("runs/other/autoencoder", "give a folder, a file"),
        ("shapes-f4c9", "did you mean shapes-f4c8?"),
        ("owner/name.safetensors", "give a folder, a file"),
        ("../run/tiny", "give a folder, a file"),
        ("", "give a folder, a file"),
    ],
)
def test_a_mistyped_folder_is_never_asked_of_the_hub(name, message, tmp_path, monkeypatch):
    (tmp_path / "runs" / "tiny" / "autoencoder").mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "quick_hub", lambda: pytest.fail("the hub was asked"))
    with pytest.raises(ValueError, match=f"no autoencoder at '{name}': {message}".replace("?", r"\?")) as error:
        load_autoencoder(name)
    assert "\n" not in str(error.value)


def test_a_folder_named_runs_is_a_folder_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "quick_hub", lambda: pytest.fail("the hub was asked"))
    with pytest.raises(ValueError, match="no autoencoder at 'runs/tiny/autoencoder'"):
        load_autoencoder("runs/tiny/autoencoder")
