"""YAML files that are code: refused before anything that they name is imported."""

import sys

import pytest

from eqvae.training.cli import ALLOWED_CLASSES, TrainCLI
from tests.tiny import options
from twostage.loading import load_sweep

EVIL = "open({marker!r}, 'w').close()\nclass Evil:\n    def __init__(self, *a, **k): pass\n"
MODULES = ("evil", "eqvae_evil", "ditto", "lightning_evil")
TAGS = {
    "object.yaml": "seed_everything: !!python/object/apply:os.system ['touch {marker}']\n",
    "new.yaml": "seed_everything: !!python/object/new:os.system ['touch {marker}']\n",
    "name.yaml": "model: !!python/name:evil.Evil\n",
    "module.yaml": "model: !!python/module:evil\n",
    "sweep.yaml": "name: x\nseeds: !!python/object/apply:os.system ['touch {marker}']\n",
}
CLASSES = {
    "model.yaml": "model:\n  class_path: evil.Evil\n",
    "prefix.yaml": "model:\n  class_path: eqvae_evil.Evil\n",
    "data.yaml": "data:\n  class_path: ditto.Evil\n",
    "callback.yaml": "trainer:\n  callbacks:\n  - class_path: evil.Evil\n",
    "logger.yaml": "trainer:\n  logger:\n    class_path: lightning_evil.Evil\n",
    "process.yaml": "model:\n  class_path: subprocess.Popen\n  init_args: {args: [touch, '{marker}']}\n",
    "through.yaml": "model:\n  class_path: eqvae.commands.os.system\n  init_args: {command: 'touch {marker}'}\n",
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that hostile code would make; its modules lie in the working folder, which is searched for modules."""
    path = tmp_path / "executed"
    (tmp_path / "work").mkdir()
    for name in MODULES:
        (tmp_path / "work" / f"{name}.py").write_text(EVIL.format(marker=str(path)))
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path / "work")
    return path


def refuse(name: str, text: str, marker) -> str:
    """What is said of a file of settings."""
    path = marker.with_name(name)
    path.write_text(text.replace("{marker}", str(marker)))
    with pytest.raises(ValueError, match=r"\S") as error:
        load_sweep(path, []) if name == "sweep.yaml" else TrainCLI(["--config", str(path)], run=False)
    assert not marker.exists(), "code of the file ran"
    assert not set(MODULES) & set(sys.modules), "a module of the working folder was imported"
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.reliability(24, counts="files")
@pytest.mark.parametrize("name", TAGS)
def test_a_tag_is_never_followed(name, marker):
    message = refuse(name, TAGS[name], marker)
    assert str(marker.with_name(name)) in message
    assert "!!python/" in message or name == "sweep.yaml"


@pytest.mark.reliability(24, counts="files")
@pytest.mark.parametrize("name", CLASSES)
def test_a_foreign_class_is_refused_with_what_is_allowed(name, marker):
    message = refuse(name, CLASSES[name], marker)
    if name != "through.yaml":  # a name of our own, of something that is no model
        assert all(prefix in message for prefix in ALLOWED_CLASSES[:2])


@pytest.mark.reliability(24, counts="files")
def test_a_foreign_class_on_the_command_line(marker):
    with pytest.raises(ValueError, match=r"evil\.Evil is not allowed"):
        TrainCLI(options({"model": "evil.Evil"}), run=False)
    assert not marker.exists()
