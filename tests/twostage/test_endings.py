"""The last two lines of a command: the next one can be read, fits what was written, and meets nothing old."""

import shlex
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from eqvae.autoencoders import load_autoencoder
from eqvae.data import ShapesSource, open_source
from eqvae.data.sources import describe_images
from tests.dit.tiny import save_generator, tiny_generator
from tests.twostage.synthetic_sweep import synthetic_results
from twostage import load_sweep
from twostage.analysis.summary import is_open
from twostage.commands.after_sampling import end_sampling, held_out_images, images_of
from twostage.commands.after_training import _training_on, _without_fit
from twostage.commands.ending import command, end, free
from twostage.commands.evaluate.following import FOLLOWING, following
from twostage.commands.sweep import _more_seeds
from twostage.compare.files import SWEEP
from twostage.compare.run import Compared


def parsed(words: list[str], monkeypatch) -> object:
    """The options of a command as its parser reads them; nothing is done."""
    read = []
    place = words[0].removesuffix(".py")
    with monkeypatch.context() as patch:
        patch.setattr(f"twostage.commands.{place}.run", read.append)
        patch.setattr(sys, "argv", words)
        import_module(f"twostage.cli.{place}").main()
    return read[0]


@pytest.mark.parametrize(
    ("started", "start"),
    [
        ("train.py", "python sample.py"),
        ("/repository/train.py", "python /repository/sample.py"),
        ("/bin/eqvae-train", "eqvae-sample"),
    ],
)
def test_a_command_is_started_as_the_one_before_it(started, start, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setenv("EQVAE_PLUGINS", "mine")
    end("a folder", command("sample", "--output", Path("a b")))
    assert capsys.readouterr().out == f"wrote a folder\nnext: {start} --plugin=mine --output 'a b'\n"


def test_a_free_folder_is_none_that_something_lies_in(tmp_path):
    assert free(tmp_path / "samples") == tmp_path / "samples"
    (tmp_path / "samples").mkdir()
    assert free(tmp_path / "samples") == tmp_path / "samples", "an empty one"
    for name in ("samples", "samples-2"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "mine").touch()
    assert free(tmp_path / "samples") == tmp_path / "samples-3"


def test_a_prediction_takes_the_options_of_the_training_but_its_own():
    words = "fit --config a --resume --ckpt_path last.ckpt --ckpt_path=x --trainer.max_steps 3 --overwrite "
    words += "--previews 2 --logger=csv"
    assert _without_fit(words.split()) == ["--config", "a", "--trainer.max_steps", "3"]


class Cache:
    """What is asked of a cache."""

    def __init__(self, num_classes, factor=4, **config):
        self.num_classes, self.spec = num_classes, self
        self.backbone_config, self.kind = config, "tokens" if "num_codes" in config else "latents"
        self.shape, self.downsampling_factor = (8, config["input_size"], config["input_size"]), factor


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        (Cache(10, in_channels=8, input_size=8), "tiny-sit"),
        (Cache(1000, in_channels=4, input_size=32), "sit-b-2"),
        (Cache(10, num_codes=128, input_size=8), "tiny-maskgit"),
        (
            Cache(7, in_channels=16, input_size=9),
            "tiny-sit in_channels=auto input_size=auto num_classes=auto patch_size=auto",
        ),
        (Cache(7, in_channels=16, input_size=8), "tiny-sit in_channels=auto num_classes=auto"),
        (Cache(1000, 16, in_channels=4, input_size=24), "sit-b-2 input_size=auto patch_size=auto"),
        (Cache(1000, 8, in_channels=4, input_size=64), "sit-b-2 input_size=auto"),
    ],
)
def test_a_generator_is_asked_for_that_fits_its_cache(cache, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("twostage.commands.after_training.open_cache", lambda folder, verify: cache)
    (tmp_path / "latents-validation").mkdir()
    fit, _, name, given, *changes = _training_on(tmp_path / "latents")
    assert (fit, given) == ("fit", f"--data.init_args.cache={tmp_path / 'latents'}")
    assert " ".join([name, *sorted(change.rpartition(".")[2] for change in changes)]) == expected


def test_a_training_meets_neither_an_old_run_nor_held_out_latents_that_are_not_there(cache, monkeypatch):
    Path("runs/tiny-sit").mkdir(parents=True)
    Path("runs/tiny-sit/run.json").touch()
    words = _training_on(cache)
    assert "--trainer.default_root_dir=runs/tiny-sit-2" in words
    assert ("--data.init_args.validation_cache=null" in words) == (not Path(f"{cache}-validation").is_dir())
    monkeypatch.setattr(sys, "argv", ["train.py", *words, "--print_config"])
    with pytest.raises(SystemExit) as stop:
        import_module("twostage.cli.train").main()
    assert stop.value.code == 0


@pytest.mark.parametrize(("kind", "seed"), [("shapes", 3), ("scenes", 0)])
def test_procedural_images_are_told_by_their_fingerprint(kind, seed):
    word = f"{kind}:40:{seed}"
    assert images_of(describe_images(open_source(word, 32))) == word
    assert images_of(describe_images(ShapesSource(40, 32, seed=3_000))) is None


def test_images_are_unknown_where_the_caches_are_gone(tmp_path):
    checkpoint = save_generator(tiny_generator(), None, tmp_path / "a.ckpt")
    assert held_out_images(str(checkpoint)) is None
    assert held_out_images(str(tmp_path / "absent.ckpt")) is None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    load_autoencoder("shapes-f4c8").save_pretrained(folder / "autoencoder")
    return save_generator(tiny_generator(), str(folder / "autoencoder"), folder / "end.ckpt")


MEASUREMENTS = {
    "reconstruction --autoencoder shapes-f4c8 --data shapes:200 --num-images 100": "evaluate.py latents --autoencoder "
    "shapes-f4c8 --data shapes:200 --image-size 32 --num-images 100",
    "latents --autoencoder shapes-f4c8 --data shapes:200:1": "compare.py shapes-f4c8 eq:shapes-f4c8 --data "
    "shapes:200:1 --image-size 32 --output runs/compare-shapes-f4c8-eq-shapes-f4c8",
    "latents --autoencoder shapes-f4c8 --autoencoder scenes-f4c8 --data shapes:200": "compare.py shapes-f4c8 "
    "scenes-f4c8 --data shapes:200 --image-size 32 --output runs/compare-shapes-f4c8-scenes-f4c8",
    "latents --autoencoder shapes-f4c8 --data photos": "evaluate.py reconstruction --autoencoder shapes-f4c8 --data "
    "photos --image-size 32",
    "generation --generated a.npz --reference shapes:9": "sweep.py --config tiny-shapes --dry-run",
    "alignment --checkpoint CKPT --data shapes:9 --ema-decay 0.9": "sample.py --checkpoint CKPT --output runs/samples "
    "--npz --ema-decay 0.9",
    "images --data photos --image-size 30": "evaluate.py reconstruction --autoencoder shapes-f4c8 --data photos "
    "--image-size 28",
}


@pytest.mark.parametrize("words", MEASUREMENTS)
def test_each_measurement_is_followed_by_a_command_that_can_be_read(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    found = following(parsed(["evaluate.py", *shlex.split(words)], monkeypatch))
    assert found == ["python", *shlex.split(MEASUREMENTS[words])]
    parsed(found[1:], monkeypatch)


def test_every_measurement_is_followed_by_one():
    assert {words.split()[0] for words in MEASUREMENTS} == set(FOLLOWING)


@pytest.mark.parametrize("with_images", [True, False])
def test_samples_that_were_not_kept_are_asked_for_first(with_images, checkpoint, tmp_path, monkeypatch, capsys):
    options = ["--num-images", "10", "--num-inference-steps", "1", "--device", "cpu", *["--png"][: int(with_images)]]
    words = ["sample.py", "--checkpoint", str(checkpoint), "--autoencoder", "AUTOENCODER", *options]
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(tmp_path)])
    (tmp_path / ("000000.png" if with_images else "grid.png")).touch()
    end_sampling(tmp_path, str(checkpoint))
    wrote, found = capsys.readouterr().out.splitlines()
    if with_images:
        assert wrote == f"wrote {tmp_path}"
        assert found == f"next: python -m webbrowser {tmp_path / 'grid.png'}", "nobody knows the real images"
    else:
        assert wrote == f"wrote {tmp_path / 'grid.png'}"
        assert parsed(shlex.split(found.removeprefix("next: python ")), monkeypatch).npz


def endings(words: list[str], monkeypatch, capsys) -> list[str]:
    """The last two lines of a command that is run in this process."""
    monkeypatch.setattr(sys, "argv", words)
    import_module(f"twostage.cli.{words[0].removesuffix('.py')}").main()
    return capsys.readouterr().out.splitlines()[-2:]


@pytest.mark.parametrize("num_seeds", [1, 2, 4])
def test_an_undecided_sweep_is_followed_by_one_with_more_seeds(num_seeds, monkeypatch, capsys):
    results = synthetic_results(num_seeds, factors=(2.0, 0.5, 2.0, 0.5))
    monkeypatch.setattr("twostage.commands.sweep.run_sweep", lambda *_: (Path("report.html"), results))
    words = ["--config", "tiny-shapes", "evaluation.num_images=50"]
    wrote, found = endings(["sweep.py", *words, "seeds=[0,1]", "--retry"], monkeypatch, capsys)
    assert wrote == f"wrote {Path('report.html').resolve()}"
    script, *more = shlex.split(found.removeprefix("next: python "))
    assert (script, more[:-2]) == ("sweep.py", words)
    following = load_sweep("tiny-shapes", more[2:])
    assert following.seeds == list(range(10))
    assert following.until_decided, "another look at the level of a single one would err too often"


def test_seeds_are_not_added_to_looks_that_were_planned():
    assert _more_seeds([], replace(synthetic_results(4), max_seeds=4)) is None
    assert _more_seeds([], replace(synthetic_results(2), seeds=list(range(20)))) is None
    twelve = _more_seeds([], replace(synthetic_results(2), seeds=list(range(12))))
    assert twelve == [f"seeds={list(range(20))}".replace(" ", ""), "until_decided=true"]


def test_a_decided_sweep_is_followed_by_its_report(monkeypatch, capsys):
    results = synthetic_results(4, factors=(2.0, 2.1, 1.9, 2.0))
    assert not is_open(results)
    monkeypatch.setattr("twostage.commands.sweep.run_sweep", lambda *_: (Path("report.html"), results))
    _, found = endings(["sweep.py", "--config", "tiny-shapes"], monkeypatch, capsys)
    assert found == f"next: python -m webbrowser {Path('report.html').resolve()}"


@pytest.mark.parametrize(("max_seeds", "goes_on"), [(4, False), (5, True)])
def test_an_undecided_comparison_is_followed_by_the_seeds_that_it_had_no_time_for(
    max_seeds, goes_on, monkeypatch, capsys
):
    results = replace(synthetic_results(4, factors=(2.0, 0.5, 2.0, 0.5)), max_seeds=max_seeds)
    outcome = Compared([], results, Path("report.html"), Path("own", SWEEP))
    monkeypatch.setattr("twostage.commands.compare.compare_autoencoders", lambda *_, **__: outcome)
    _, found = endings(["compare.py", "a", "b", "--output", "own"], monkeypatch, capsys)
    report = f"next: python -m webbrowser {Path('report.html').resolve()}"
    assert found == (f"next: python sweep.py --config {Path('own', SWEEP)}" if goes_on else report)
