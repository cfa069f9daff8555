"""`export.py`: a folder as the hub takes it, what its card says, and the upload."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, DiTPipeline
from huggingface_hub import ModelCard

from dit.backbones import DiT, SiT
from eqvae import publishing
from eqvae.autoencoders import Normalization, load_autoencoder
from eqvae.evaluation.measurements import read_measurements
from eqvae.evaluation.metrics import METRICS
from eqvae.evaluation.predictors import PREDICTORS
from eqvae.hashes import write_json
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from twostage.cli import export

BASE = {"shift": [0.0], "scale": [0.18215]}
ORIGIN = {
    "start": {"kind": "hub", "source": "owner/base/vae", "fingerprint": "0" * 64, "normalization": BASE},
    "num_steps": 1200,
    "recipe": {"config": "eq-vae", "regularizers": ["equivariance: scale isotropic"], "global_batch_size": 16},
    "data": {"name": "imagenet", "num_images": 9, "image_size": 16},
}


@pytest.fixture
def trained(tmp_path):
    """A run's autoencoder folder."""
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = Normalization((0.1, -0.2, 0.3, 0.0), (0.5, 0.8, 1.2, 0.3), "estimated", 9)
    autoencoder.save_pretrained(tmp_path / "run" / "autoencoder", ORIGIN)
    return tmp_path / "run" / "autoencoder"


@pytest.fixture
def checkpoint(tmp_path, trained):
    generator = tiny_generator(DiT, load_autoencoder(trained))
    path = save_generator(generator, str(trained), tmp_path / "last.ckpt")
    data = {"init_args": {"global_batch_size": 32, "cache": str(tmp_path / "latents")}}
    settings = {"config": "tiny-dit", "model": {"init_args": {"learning_rate": 1e-4, "seed": 3}}, "data": data}
    torch.save(torch.load(path, weights_only=True) | {"settings": settings}, path)
    return path


@pytest.fixture
def hub(monkeypatch):
    """What is asked of the hub; `files` are those of the folder at the time of the upload."""
    calls = []

    class Api:
        def create_repo(self, repo_id, **options):
            calls.append(("create_repo", repo_id, options))

        def repo_info(self, repo_id):
            return SimpleNamespace(private=repo_id != "me/public")

        def create_branch(self, repo_id, **options):
            calls.append(("create_branch", repo_id, options))

        def upload_folder(self, **options):
            folder = Path(options.pop("folder_path"))
            names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
            calls.append(("upload_folder", options, names))
            return SimpleNamespace(commit_url="https://hub.invalid/commit")

    monkeypatch.setattr(publishing, "HfApi", Api)
    monkeypatch.setattr(publishing, "get_token", lambda: "token")
    monkeypatch.setattr("eqvae.network.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("eqvae.network.is_reachable", lambda url: True)
    monkeypatch.setattr("twostage.commands.export.license_on_hub", lambda repository: None)
    return calls


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["export.py", *map(str, words)])
    monkeypatch.setenv("EQVAE_DEBUG", "1")  # errors as they are raised
    export.main()


def result(path, fingerprint, **values):
    about = {"autoencoder": "/some/where/autoencoder", "autoencoder_fingerprint": fingerprint}
    write_json(path, about | {"data": "/data/imagenet/val", "num_images": 500, "image_size": 16} | values)
    return path


def assert_no_place(folder, place):
    """No text in a folder names a place, nor the folders above it."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            for part in (str(place), "/some/where", "/data/"):
                assert part not in path.read_text(), path


def test_an_autoencoder_becomes_a_repository(trained, tmp_path, monkeypatch, hub, capsys):
    fingerprint = load_autoencoder(trained).fingerprint()
    metrics = [
        result(tmp_path / "reconstruction.json", fingerprint, psnr=27.5, psnr_std=1.25, rfid=0.8),
        result(tmp_path / "latents.json", fingerprint, **{"equivariance/latent/turn90": 0.25, "viv/viv": 1.0}),
    ]
    out = tmp_path / "out"
    words = ("--autoencoder", trained, "--output", out, "--metrics", *metrics, "--license", "mit")
    pushing = ("--push-to-hub", "me/eq-vae", "--private", "--revision", "v1", "--commit-message", "first")
    run(monkeypatch, "autoencoder", *words, *pushing)
    wrote, following = capsys.readouterr().out.splitlines()
    assert wrote == f"wrote {out}, pushed as https://hub.invalid/commit"
    assert following == "next: python -m webbrowser https://hub.invalid/commit"
    options = {"repo_id": "me/eq-vae", "commit_message": "first", "revision": "v1"}
    names = {"README.md", "config.json", "normalization.json", "diffusion_pytorch_model.safetensors"}
    assert hub == [
        ("create_repo", "me/eq-vae", {"private": True, "exist_ok": True}),
        ("create_branch", "me/eq-vae", {"branch": "v1", "exist_ok": True}),
        ("upload_folder", options, names),
    ]
    card = ModelCard.load(out / "README.md")
    assert (card.data.base_model, card.data.license, card.data.library_name) == ("owner/base", "mit", "diffusers")
    assert {"diffusers", "autoencoder", "equivariance"} <= set(card.data.tags)
    found = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert found == {"psnr": 27.5, "rfid": 0.8, "equivariance/latent/turn90": 0.25}, "predictors are no metrics"
    for told in (
        'AutoencoderKL.from_pretrained("me/eq-vae")',
        "| `psnr` | 27.5 ± 1.25 | higher | val, 500 images, 16 pixels |",
        "- `psnr`: 20 log10(255 / RMSE)",
        "| images per step | 16 |",
        "| steps | 1200 |",
        "| training images | imagenet |",
        "`mit`, as stated by who exported it.",
    ):
        assert told in card.text
    assert_no_place(out, tmp_path)
    assert load_autoencoder(out).fingerprint() == fingerprint
    assert AutoencoderKL.from_pretrained(out).config.latents_mean == [0.1, -0.2, 0.3, 0.0]


def test_it_may_keep_the_constants_of_its_base(trained, tmp_path, monkeypatch, capsys):
    run(monkeypatch, "autoencoder", "--autoencoder", trained, "--output", tmp_path / "out", "--constants", "base")
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out'}\nnext: hf upload out {tmp_path / 'out'}\n"
    config = AutoencoderKL.from_pretrained(tmp_path / "out").config
    assert (config.scaling_factor, config.latents_mean) == (0.18215, None)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license is None, "nobody has stated one"
    assert "No licence was stated" in card.text
    assert "| constants are of | the base model, to fit its pipelines |" in card.text
    assert "No measurements were given" in card.text


def test_a_folder_of_before_exports_without_the_path_that_it_names(trained, tmp_path, monkeypatch):
    """Earlier versions had no card, and wrote down the path of what they trained from."""
    record = json.loads((trained / "normalization.json").read_text())
    about = {name: record[name] for name in ("shift", "scale", "method", "num_images", "files")}
    start = {"source": str(tmp_path / "weights" / "kl-f8.ckpt"), "fingerprint": "0" * 64}
    write_json(trained / "normalization.json", about | {"origin": {"start": start, "num_steps": 5}})
    (trained / "README.md").unlink()
    run(monkeypatch, "autoencoder", "--autoencoder", trained, "--output", tmp_path / "out")
    assert_no_place(tmp_path / "out", tmp_path)
    assert "`kl-f8.ckpt`, which is not published" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match=r"--constants base: .* exported by an earlier version"):
        run(monkeypatch, "autoencoder", "--autoencoder", trained, "--output", tmp_path / "o", "--constants", "base")


def test_a_generator_becomes_a_pipeline_with_a_card(checkpoint, tmp_path, monkeypatch, hub):
    write_json(tmp_path / "samples.json", {"fid": 12.5, "num_generated": 50, "reference": {"data": "/data/val"}})
    words = ("--checkpoint", checkpoint, "--output", tmp_path / "out", "--num-inference-steps", 10)
    run(monkeypatch, "generator", *words, "--metrics", tmp_path / "samples.json", "--push-to-hub", "me/dit")
    assert hub[0] == ("create_repo", "me/dit", {"private": None, "exist_ok": True})
    assert {"README.md", "model_index.json", "vae/config.json"} <= hub[-1][2]
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert [each.metric_type for each in card.data.eval_results] == ["fid"]
    for told in (
        'DiTPipeline.from_pretrained("me/dit")',
        "`autoencoder`, which is not published",
        "| trained from | `owner/base/vae` |",
        "| config | tiny-dit |",
        "| images per step | 32 |",
        "| num_inference_steps | 10 or a divisor of it",
        "| `fid` | 12.5 | lower | val, 50 generated images |",
        "No licence was stated",
    ):
        assert told in card.text
    assert_no_place(tmp_path / "out", tmp_path)
    assert DiTPipeline.from_pretrained(tmp_path / "out")


def test_a_base_without_constants_is_not_called_an_earlier_version(trained, tmp_path, monkeypatch):
    unknown = ORIGIN | {"start": ORIGIN["start"] | {"normalization": None}}
    load_autoencoder(trained).save_pretrained(tmp_path / "again", unknown)
    words = ("--autoencoder", tmp_path / "again", "--output", tmp_path / "o", "--constants", "base")
    with pytest.raises(ValueError, match=r"--constants base: what .*again was trained from has none that are known"):
        run(monkeypatch, "autoencoder", *words)


def test_a_pipeline_is_exported_again(trained, tmp_path, monkeypatch):
    """A folder of diffusers tells what it is."""
    generator = tiny_generator(DiT, load_autoencoder(trained), frequency_divisor=127)
    path = save_generator(generator, str(trained), tmp_path / "own.ckpt")
    run(monkeypatch, "generator", "--checkpoint", path, "--output", tmp_path / "first")
    run(monkeypatch, "generator", "--checkpoint", tmp_path / "first", "--output", tmp_path / "second")
    assert DiTPipeline.from_pretrained(tmp_path / "second")


def test_a_generator_that_no_pipeline_runs_is_refused(trained, tmp_path, monkeypatch):
    path = save_generator(tiny_generator(SiT, load_autoencoder(trained)), str(trained), tmp_path / "sit.ckpt")
    with pytest.raises(ValueError, match="DiTPipeline runs DiT alone"):
        run(monkeypatch, "generator", "--checkpoint", path, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_measurements_of_another_autoencoder_are_refused(trained, tmp_path, monkeypatch):
    other = result(tmp_path / "other.json", "f" * 64, psnr=20.0)
    with pytest.raises(ValueError, match=r"other\.json was measured on autoencoder, which is not this autoencoder"):
        run(monkeypatch, "autoencoder", "--autoencoder", trained, "--output", tmp_path / "out", "--metrics", other)
    assert not (tmp_path / "out").exists()


def test_a_generator_s_card_has_no_measurements_of_another_autoencoder(checkpoint, tmp_path, monkeypatch):
    first, second = ({"autoencoder_fingerprint": name * 64, "autoencoder": name, "psnr": 1.0} for name in "ab")
    write_json(tmp_path / "two.json", {"first": first, "second": second})
    words = ("--checkpoint", checkpoint, "--output", tmp_path / "out", "--metrics", tmp_path / "two.json")
    with pytest.raises(ValueError, match=r"two\.json was measured on a, b, which is not this autoencoder"):
        run(monkeypatch, "generator", *words)
    assert not (tmp_path / "out").exists()


def test_of_two_that_were_compared_the_right_one_is_taken(tmp_path):
    first, second = ({"autoencoder_fingerprint": name, "psnr": value} for name, value in (("a", 1.0), ("b", 2.0)))
    two = {"first": first, "second": second, "differences": {"psnr": 1.0}}
    write_json(tmp_path / "two.json", two)
    assert [each.value for each in read_measurements([tmp_path / "two.json"], "b")] == [2.0]
    write_json(tmp_path / "none.json", {"num_images": 3})
    with pytest.raises(ValueError, match=r"none\.json holds no metric"):
        read_measurements([tmp_path / "none.json"])


def test_every_metric_but_the_predictors_has_a_definition():
    predictors = {metric.name for each in PREDICTORS.values() for metric in each.metrics()}
    assert {name for name, metric in METRICS.items() if not metric.definition} == predictors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--push-to-hub", "me/name"), "--push-to-hub me/name: the hub does not answer"),
        (("--push-to-hub", "name"), "--push-to-hub name: give OWNER/NAME"),
        (("--push-to-hub", "a/b/c"), "--push-to-hub a/b/c: Repo id must be"),
        (("--private",), "--private says how to push: give --push-to-hub"),
        (("--base-model", "base"), "--base-model base: give OWNER/NAME"),
        (("--license", "MIT License"), "--license MIT License: give an identifier"),
    ],
)
def test_what_cannot_be_published_is_one_line_and_writes_nothing(words, message, trained, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=message) as error:
        run(monkeypatch, "autoencoder", "--autoencoder", trained, "--output", tmp_path / "out", *words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_without_a_token_or_with_a_refusal_the_line_says_what_to_do(trained, tmp_path, monkeypatch, hub):
    words = ("autoencoder", "--autoencoder", trained, "--output", tmp_path / "out", "--push-to-hub", "me/name")
    monkeypatch.setattr(publishing, "get_token", lambda: None)
    with pytest.raises(ValueError, match="no token: run `hf auth login`, or set HF_TOKEN"):
        run(monkeypatch, *words)
    assert hub == []
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(publishing, "get_token", lambda: "token")

    def refuse(self, *_, **__):
        raise RuntimeError("403 Forbidden\nand more")

    monkeypatch.setattr(publishing.HfApi, "create_repo", refuse)
    with pytest.raises(ValueError, match=rf"403 Forbidden; the folder is written: `hf upload me/name {tmp_path}/out`$"):
        run(monkeypatch, *words)
    assert load_autoencoder(tmp_path / "out")


def test_what_is_to_be_private_is_not_sent_to_a_public_repository(trained, tmp_path, monkeypatch, hub):
    words = ("autoencoder", "--autoencoder", trained, "--output", tmp_path / "out", "--push-to-hub", "me/public")
    with pytest.raises(ValueError, match=r"me/public: it exists and is public: .* nothing was uploaded"):
        run(monkeypatch, *words, "--private")
    assert [name for name, *_ in hub] == ["create_repo"]
    run(monkeypatch, *words[:4], tmp_path / "again", *words[5:])
    assert [name for name, *_ in hub][2:] == ["upload_folder"]


def test_the_licence_is_the_one_that_the_base_s_own_card_gives(trained, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--owner--base" / "snapshots" / ("0" * 40)
    shutil.copytree(trained, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert publishing.license_on_hub("owner/base") == "mit"
    assert publishing.license_on_hub("owner/absent") is None
    run(monkeypatch, "autoencoder", "--autoencoder", trained, "--output", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert "`mit`, that of `owner/base` by its own card." in card.text
