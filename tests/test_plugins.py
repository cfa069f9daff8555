"""A user's own package, named by --plugin: trained, sampled, planned; what is not named is never imported."""

import pickle
import re
import sys
from pathlib import Path

import pytest
import torch

import sample
import sweep
from dit.checkpoints import load_generator
from dit.samplers import SAMPLERS
from eqvae.commands import CommandParser, run_command
from eqvae.latents import open_cache
from eqvae.module import AutoencoderModule
from eqvae.plugins import VARIABLE, enable_plugins, find_class, plugin_folders, plugins, take_plugins
from eqvae.training.cli import TrainCLI
from tests.tiny import PACKAGED, STAGE_ONE, train
from twostage import load_sweep, plan
from twostage.parts import PARTS, WithPlugins, run_node
from twostage.parts.part import read_anew

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs/sweeps/tiny-shapes.yaml"
FILES = {
    "__init__.py": """
from pathlib import Path

from dit.samplers import SAMPLERS
from dit.samplers.ode import EULER
from dataclasses import replace

Path(__file__).with_name("imported").touch()
SAMPLERS["{name}_euler"] = replace(EULER, name="{name}_euler")
""",
    "backbone.py": '''
import torch
from torch import nn


class Pointwise(nn.Module):
    """A map of each place and the image's class and time."""

    def __init__(self, input_size: int, in_channels: int, num_classes: int, class_dropout_prob: float = 0.1):
        super().__init__()
        self.config = {"input_size": input_size, "in_channels": in_channels, "num_classes": num_classes,
                       "class_dropout_prob": class_dropout_prob}
        self.classes = nn.Embedding(num_classes + 1, in_channels)
        self.mix = nn.Conv2d(in_channels + 1, in_channels, 1)

    def forward(self, x, t, y, drop_labels=None):
        if drop_labels is not None:
            y = torch.where(drop_labels, self.config["num_classes"], y)
        time = t.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.mix(torch.cat((x, time), 1)) + self.classes(y)[..., None, None]
''',
    "objective.py": '''
from collections.abc import Callable

from torch import Tensor

from dit.objectives import Flow


class Doubled(Flow):
    """Twice the loss."""

    default_sampler = "{name}_euler"

    def loss_terms(
        self, model: Callable[..., Tensor], data: Tensor, noise: Tensor, t: Tensor, **conditions: Tensor
    ) -> dict[str, Tensor]:
        terms = super().loss_terms(model, data, noise, t, **conditions)
        return {{name: 2 * value for name, value in terms.items()}}
''',
    "source.py": '''
import torch
from torch import Tensor


class Stripes:
    """Images of one colour."""

    num_classes, class_names = 2, ["dark", "light"]

    def __init__(self, num_images: int = 8):
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3, 32, 32), 20 * index % 256, dtype=torch.uint8), index % 2

    def fingerprint(self) -> str:
        return f"stripes {{self.num_images}}"
''',
    "regularizer.py": '''
from eqvae.autoencoders import Term
from eqvae.regularizers import LatentRegularizer
from eqvae.regularizers.base import Action, Pass, StepKey


class Small(Action):
    """Mean square of the latents."""

    def terms(self, step: Pass) -> list[Term]:
        return [Term("small", step.result.latents.square().mean(), 0.5)]


class SmallLatents(LatentRegularizer):
    """Keeps latents small."""

    name = "small"

    def draw(self, key: StepKey) -> Action:
        return Small()
''',
    "callback.py": '''
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class Mark(Callback):
    """Writes a file when training ends."""

    def __init__(self, file: str):
        self.file = file

    def on_train_end(self, trainer, module):
        Path(self.file).write_text(str(trainer.global_step))
''',
}


@pytest.fixture
def package(tmp_path, monkeypatch, request) -> str:
    """Name of a package in a folder that Python looks in; nothing is named to us."""
    name = "plugin_" + re.sub(r"\W", "_", request.node.name)
    for file, text in FILES.items():
        path = tmp_path / "own" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(name=name) if file in ("__init__.py", "objective.py", "source.py") else text)
    monkeypatch.syspath_prepend(tmp_path / "own")
    monkeypatch.setenv(VARIABLE, "")
    yield name
    for each in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[each]
    SAMPLERS.pop(f"{name}_euler", None)


def was_imported(tmp_path: Path, package: str) -> bool:
    return (tmp_path / "own" / package / "imported").exists()


def generator(package: str) -> dict[str, str]:
    return {
        "model.init_args.backbone": f"{{class_path: {package}.backbone.Pointwise, "
        "init_args: {input_size: 8, in_channels: 8, num_classes: 2}}",
        "model.init_args.objective": f"{package}.objective.Doubled",
    }


def stage_one_words(package: str, folder: Path) -> list:
    source = f"{{class_path: {package}.source.Stripes, init_args: {{num_images: 8}}}}"
    settings = (
        STAGE_ONE | PACKAGED | {"trainer.default_root_dir": folder, "model.init_args.cache.folder": folder / "latents"}
    )
    settings = {key: value for key, value in settings.items() if "num_images" not in key or "normalization" in key}
    data = {"data.init_args.train": source, "data.init_args.validation": source.replace("8", "6")}
    return ["--config", "configs/eqvae/tiny-shapes.yaml", settings | data]


def test_an_own_regularizer_joins_the_loss(package, tmp_path, monkeypatch):
    own = {"model.init_args.regularizers": f"[{{class_path: {package}.regularizer.SmallLatents}}]"}
    logged = {}
    monkeypatch.setattr(AutoencoderModule, "log", lambda self, name, value, **_: logged.update({name: float(value)}))
    small = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "trainer.log_every_n_steps": 1}
    train("fit", *stage_one_words(package, tmp_path), own | small, "--plugin", package)
    assert logged["train/small"] > 0


def test_own_classes_are_trained_and_sampled(package, tmp_path, monkeypatch):
    train("predict", *stage_one_words(package, tmp_path), "--plugin", package)
    assert was_imported(tmp_path, package)
    assert open_cache(tmp_path / "latents").num_classes == 2
    mark = {"class_path": f"{package}.callback.Mark", "init_args": {"file": str(tmp_path / "mark")}}
    settings = generator(package) | {
        "trainer.max_steps": 2,
        "trainer.limit_val_batches": 0,
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.callbacks": [mark],
        "data.init_args.cache": tmp_path / "latents",
        "data.init_args.validation_cache": "null",
        "data.init_args.global_batch_size": 4,
    }
    cli = train("fit", "--config", "configs/dit/tiny-sit.yaml", settings, f"--plugin={package}")
    assert type(cli.model.backbone).__module__ == f"{package}.backbone"
    assert (tmp_path / "mark").read_text() == "2"
    (saved,) = (tmp_path / "run").rglob("config.yaml")
    assert package in saved.read_text()
    assert "plugin:" not in saved.read_text(), "a file cannot name what it may import"
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    words = ["--num-images", "4", "--num-inference-steps", "2", "--output", tmp_path / "samples", "--plugin", package]
    monkeypatch.setattr(sys, "argv", ["sample.py", "--checkpoint", *map(str, (checkpoint, *words))])
    sample.main()
    assert f'"sampler": "{package}_euler"' in (tmp_path / "samples/samples.json").read_text()
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(
        ValueError, match=rf"last\.ckpt: class {package}\.backbone\.Pointwise is not allowed: .*--plugin"
    ):
        load_generator(checkpoint)


@pytest.mark.parametrize(
    "words",
    [
        lambda package: {"model.init_args.backbone": f"{{class_path: {package}.backbone.Pointwise}}"},
        lambda package: {"model.init_args.objective": f"{package}.objective.Doubled"},
        lambda package: {"trainer.callbacks": f"[{{class_path: {package}.callback.Mark}}]"},
        lambda package: {"data.init_args.images": f"{{class_path: {package}.source.Stripes}}"},
    ],
    ids=["backbone", "objective", "callback", "source"],
)
def test_what_is_not_named_is_refused_before_it_is_imported(package, tmp_path, words):
    with pytest.raises(ValueError, match=rf"{package}\.\S+ is not allowed: .*--plugin {package}") as error:
        train("fit", "--config", "configs/dit/tiny-sit.yaml", words(package))
    assert "\n" not in str(error.value)
    assert not was_imported(tmp_path, package)


def own_generator(package: str) -> str:
    """A generator of a sweep file."""
    overrides = "{" + ", ".join(f"{key}: {value}" for key, value in generator(package).items()) + "}"
    return f"{{label: Own, config: configs/dit/tiny-sit.yaml, overrides: {overrides}, sampling: {{sampler: null}}}}"


def test_own_classes_in_a_dry_run(package, tmp_path, monkeypatch, capsys):
    text = DEMO.read_text().replace("\ngenerators:", f"\ngenerators:\n  own: {own_generator(package)}\n#", 1)
    (tmp_path / "sweep.yaml").write_text(text)
    words = ["--config", tmp_path / "sweep.yaml", "--dry-run", f"root={tmp_path}", "seeds=[0]"]
    words = ["sweep.py", *map(str, words), "evaluation.at_steps=[200]"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        sweep.main()
    error = capsys.readouterr().err
    assert f"generators.own.config: class {package}.objective.Doubled is not allowed" in error
    assert f"--plugin {package}" in error
    assert not was_imported(tmp_path, package)
    monkeypatch.setattr(sys, "argv", [*words, "--plugin", package])
    sweep.main()
    line = next(line for line in capsys.readouterr().out.splitlines() if " control/seed0/generators/own " in line)
    assert "200 steps" in line
    assert " 0.0 MB" in line, "its weights are counted"
    assert "? MB" not in line


def test_an_edit_of_the_package_is_other_work_where_it_is_reached(package, tmp_path):
    enable_plugins([package])
    small = ["seeds=[0]", "evaluation.at_steps=[200]", f"generators.own={own_generator(package)}"]
    nodes = plan(load_sweep(DEMO, small)).branch("control", 0).generators["own"]
    training, measured = nodes.training, nodes.evaluations[200]
    assert measured.settings["sampling"]["sampler"] == f"{package}_euler"

    def is_other_work(file: str) -> bool:
        path = tmp_path / "own" / package / file
        text = path.read_text()
        path.write_text(text + "\nCHANGED = 1\n")
        read_anew()  # as every plan does
        again = PARTS["generator"].node("again", training.settings, training.inputs)
        path.write_text(text)
        read_anew()
        return again.address != training.address

    assert {file: is_other_work(file) for file in FILES} == {
        "__init__.py": True,
        "backbone.py": True,
        "objective.py": True,
        "source.py": False,
        "regularizer.py": False,
        "callback.py": False,
    }
    assert PARTS["generator"].node("again", training.settings, training.inputs).address == training.address


def test_an_edit_of_a_sampler_that_is_named_is_another_measurement(package, tmp_path):
    """No class is named: only that the package is there."""
    enable_plugins([package])
    named = ["seeds=[0]", "evaluation.at_steps=[200]", f"evaluation.sampling.sampler={package}_euler"]

    def addresses() -> dict[str, str]:
        return {node.name: node.address for node in plan(load_sweep(DEMO, named)).nodes}

    before, path = addresses(), tmp_path / "own" / package / "__init__.py"
    path.write_text(path.read_text() + "\nCHANGED = 1\n")
    after = addresses()
    assert {name for name in before if before[name] != after[name]} == {name for name in before if "/metrics/" in name}


def test_workers_know_what_was_named(package, monkeypatch, tmp_path):
    """A job on a cluster is a process of its own, whose environment need not be ours."""
    done = []
    monkeypatch.setitem(PARTS, "none", Part(done))
    work = pickle.loads(pickle.dumps(WithPlugins(run_node, (package,))))
    work("none", tmp_path, {}, {}, lambda *_: None)
    assert done == [(package,)]


class Part:
    """A part that notes which packages are named."""

    def __init__(self, done: list):
        self.done = done

    def run(self, *arguments) -> None:
        self.done.append(plugins())


def test_a_package_is_named_anywhere_and_several_times(package, monkeypatch):
    assert take_plugins(["fit", "--plugin", package, "--config", "x"]) == ["fit", "--config", "x"]
    assert plugins() == (package,)
    assert take_plugins([f"--plugin={package}"]) == []
    assert plugins() == (package,)
    assert find_class(f"{package}.source.Stripes").__name__ == "Stripes"
    assert plugin_folders()[package].name == "own"
    monkeypatch.setattr(sys, "argv", ["x", "--plugin", package, "rest"])
    run_command(lambda: None)
    assert sys.argv == ["x", "rest"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "give the name of one package"),
        ("os.path", "os.path: give the name of one package"),
        ("dit", "dit: give the name of one package or module of your own"),
        ("no_such_package", "no_such_package: there is no such package in"),
        ("{package}_broken", "{package}_broken cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_named(package, tmp_path, name, message):
    (tmp_path / f"own/{package}_broken.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=re.escape(message.format(package=package))) as error:
        take_plugins(["--plugin", name.format(package=package)])
    assert "\n" not in str(error.value)
    assert plugins() == ()


def test_options_that_are_refused_are_not_offered(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        TrainCLI(["fit", "--help"])
    text = capsys.readouterr().out
    assert "--plugin PACKAGE" in text
    assert "optimizer CONFIG" not in text
    assert "torch.optim" not in text
    assert "lr_scheduler" not in text
    assert "--plugin PACKAGE" in CommandParser().format_help()
    settings = {"trainer.default_root_dir": "x"}
    with pytest.raises(ValueError, match=r"class torch\.optim\.Adam is not allowed"):
        train("fit", "--config", "configs/dit/tiny-sit.yaml", settings, "--optimizer", "torch.optim.Adam")


def test_configs_that_earlier_runs_have_saved_are_read(tmp_path):
    text = (ROOT / "configs/dit/tiny-sit.yaml").read_text()
    (tmp_path / "saved.yaml").write_text(f"{text}\noptimizer: null\nlr_scheduler: null\n")
    cli = TrainCLI(["--config", str(tmp_path / "saved.yaml")], run=False)
    assert isinstance(cli.model.backbone, torch.nn.Module)
