"""Typical mistakes of users, each at the command line: one line on standard error names key or file, and a remedy.

Whatever is refused, nothing is left behind.
"""

import json
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eqvae.autoencoders import load_autoencoder
from eqvae.locks import Lock
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder

SWEEP = Path(__file__).parents[1] / "configs/sweeps/tiny-shapes.yaml"
SHORT = {
    "FIT": "train.py fit --config tiny-shapes --trainer.default_root_dir OUT --trainer.max_steps 1 "
    "--trainer.limit_val_batches 0 --trainer.log_every_n_steps 1 --data.init_args.global_batch_size 4",
    "LEARN": "train.py fit --config tiny-sit --trainer.default_root_dir OUT --trainer.max_steps 1 "
    "--trainer.limit_val_batches 0 --data.init_args.validation_cache null --data.init_args.cache",
    "FOLDER": "--data.init_args.train eqvae.data.FolderSource --data.init_args.train.init_args.image_size 32 "
    "--data.init_args.train.init_args.root",
    "SAMPLE": "sample.py --num-images 2 --num-inference-steps 1 --device cpu --output OUT --checkpoint",
    "MEASURE": "evaluate.py reconstruction --autoencoder",
    "COMPARE": "compare.py shapes-f4c8 eq:shapes-f4c8 --output OUT",
    "BACKBONE": "--model.init_args.backbone.init_args",
}
"""Beginnings of commands; OUT is a folder of the test's own, CACHE a latent cache that is whole."""

MISTAKES = {
    # what to do at all
    "train.py": "give one of fit, validate, test, predict",
    "train.py fitt": "fitt is none of fit, validate, test, predict: did you mean fit?",
    "train.py fit": "nothing says what to train: give --config",
    "train.py fit tiny-shapes": "tiny-shapes is not expected: * such as --config tiny-shapes",
    "train.py fit --config tiny-shape": "no packaged config is called tiny-shape: did you mean tiny-shapes",
    "train.py fit --config absent.yaml": "config absent.yaml cannot be read: * give the path of a YAML file",
    "train.py fit --config broken.yaml": "config broken.yaml, line 3: did not find expected",
    # keys and values of a training
    "FIT --trainer.maxsteps 3": "--trainer.maxsteps is unknown: did you mean --trainer.max_steps?",
    "FIT --trainer.max_steps many": "trainer.max_steps: many is no int",
    "FIT --trainer.max_steps 0": "trainer.max_steps 0: give 1 or more",
    "FIT --trainer.accelerator cuda": "trainer.accelerator cuda: torch finds none here; set it to cpu or auto",
    "FIT --data.init_args.global_batch_size -4": "data.init_args.global_batch_size -4 does not divide * use 1",
    "FIT --model.init_args.regularizers '[{class_path: eqvae.regularizers.LatentNois}]'": "model.init_args.regularizers"
    ": there is no class eqvae.regularizers.LatentNois: did you mean eqvae.regularizers.LatentNoise?",
    "FIT --model.init_args.learning_rate -1": "model.init_args.learning_rate must be at least 0 and finite, got -1",
    "FIT --data.init_args.train shapes:100": "data.init_args.train: shapes:100 is no class: give the full path of one, "
    "such as eqvae.data.ShapesSource",
    # images
    "FIT --data.init_args.train.init_args.image_size 30": "data.init_args.train: image_size 30 is no multiple of 4, * "
    "use 28 or 32",
    "FIT --data.init_args.train.init_args.num_images 0": "shapes need num_images >= 1",
    "FIT FOLDER absent": "image folder absent does not exist: check `root`",
    "FIT FOLDER empty": "image folder empty holds no images (*.png",
    "FIT FOLDER corrupt": "corrupt/a/1.png is not a readable image * replace or remove",
    # autoencoders
    "FIT --model.init_args.autoencoder nowhere": "no autoencoder at 'nowhere': did you mean other?",
    "FIT --model.init_args.autoencoder some/where": "'some/where' cannot be had from the hub, * give a local folder",
    "FIT --model.init_args.autoencoder empty": "autoencoder folder empty has no config.json: is it",
    "FIT --model.init_args.autoencoder generator.ckpt": "generator.ckpt is the checkpoint of a generator, stage 2: "
    "give the autoencoder",
    "MEASURE stage1.ckpt --data shapes:9": "stage1.ckpt is the checkpoint of a training of stage 1: give the "
    "autoencoder folder that `fit`",
    # run folders
    "FIT --trainer.default_root_dir file/run": "file/run lies below a file: give another place",
    "FIT --trainer.default_root_dir used": "run folder used holds a run * --resume, begin anew with --overwrite, or",
    "FIT --trainer.default_root_dir busy": "run folder busy is in use by process",
    # latents
    "LEARN absent": "absent is no finished latent cache (manifest.json is missing): run `train.py predict`",
    "LEARN older": "older/manifest.json has format version 1, this release reads 2: cache again",
    "LEARN damaged": "damaged/manifest.json is damaged: * write the cache again",
    "LEARN CACHE --model.init_args.autoencoder other": "autoencoder other did not make the latent cache * give another",
    "LEARN CACHE BACKBONE.input_size 16": "backbone.input_size is 16, the cache * has 8: set model.init_args.backbone",
    "LEARN CACHE --model.init_args.backbone SiT-B/2": "model.init_args.backbone: SiT-B/2 is no class: give the full "
    "path of one, such as dit.backbones.SiT",
    "LEARN CACHE --model.init_args.objective dit.objectives.Flwo": "did you mean dit.objectives.Flow?",
    "LEARN CACHE --model.init_args.objective.init_args.path cubic": "path: cubic is none of linear, gvp, vp",
    "LEARN CACHE --trainer.logger wandb": "trainer.logger: wandb is no class: * lightning.pytorch.loggers.WandbLogger",
    "LEARN CACHE --ckpt_path absent.ckpt": "no checkpoint at absent.ckpt; the newest intact one beside it is",
    "LEARN CACHE --ckpt_path cut/short.ckpt": "cut/short.ckpt cannot be read safely: it was cut short: give another",
    "LEARN CACHE --ckpt_path stage1.ckpt": "checkpoint stage1.ckpt is of another network",
    "train.py predict --config tiny-sit --trainer.default_root_dir OUT --data.init_args.cache CACHE": "stage 2 has no "
    "predict: images come from sample.py",
    # samples
    "sample.py": "the following arguments are required: --checkpoint",
    "sample.py --outputt a --checkpoint generator.ckpt": "--outputt is unknown: did you mean --output?",
    "SAMPLE cut/short.ckpt": "cut/short.ckpt cannot be read safely: it was cut short",
    "SAMPLE stage1.ckpt": "stage1.ckpt is of a training, but of no generator: give one of stage 2",
    "SAMPLE generator.ckpt --sampler eulr": "--sampler: eulr is none of * did you mean euler?",
    "SAMPLE generator.ckpt --sampler ddim": "sampler 'ddim' does not fit a Flow model: use one of euler",
    "SAMPLE generator.ckpt --guidance-scale strong": "--guidance-scale: 'strong' is no number: give one",
    "SAMPLE generator.ckpt --guidance-scale 2": "guidance_scale 2 needs * class_dropout_prob 0: give guidance_scale 1",
    "SAMPLE generator.ckpt --num-images 0": "--num-images must be at least 1 and at most",
    "SAMPLE generator.ckpt --labels 99": "labels 99: this generator knows 0 to 4",
    "SAMPLE generator.ckpt --device cuda": "--device cuda: torch finds none here; give --device cpu",
    "SAMPLE generator.ckpt --device gpu:x": "--device gpu:x is none of cpu, cuda",
    "SAMPLE generator.ckpt --output file": "file is a file, and a folder is wanted there: give another place",
    # measurements
    "evaluate.py reconstructio": "did you mean reconstruction?",
    "MEASURE shapes-f4c8 --dat shapes:9 --imagee 3": "--imagee is unknown: did you mean --image",
    "MEASURE shapes-f4c8 --data shapes:abc": "images 'shapes:abc': procedural ones are written shapes:COUNT or",
    "MEASURE shapes-f4c8 --data shapse:9": "nothing at shapse:9: did you mean shapes:COUNT[:SEED]?",
    "MEASURE shapes-f4c8 --data absent": "nothing at absent: give shapes:COUNT[:SEED]",
    "MEASURE shapes-f4c8 --data shapes:9 --image-size 30": "--image-size 30 is no multiple of 4, * use 28 or 32",
    "MEASURE shapes-f4c8 --data shapes:9 --num-images -3": "--num-images must be at least 1 and at most",
    "MEASURE shapes-f4c8 --data shapes:9 --extractor inceptoin": "--extractor: * did you mean inception_v3?",
    "MEASURE shapes-f4c8 --data shapes:9 --output file/a.json": "file/a.json lies below a file: give another place",
    "MEASURE shapes-f4c8 --data shapes:9 --figure empty": "empty is a folder, and a file is wanted there",
    "MEASURE shapes-f4c8 --data shapes:9 --device cuda": "--device cuda: torch finds none here; give --device cpu",
    "evaluate.py latents --autoencoder shapes-f4c8 --data shapes:9 --predictors rnak": "predictor 'rnak' is unknown: "
    "use all, none, or some of",
    "evaluate.py generation --generated absent.npz --reference shapes:9": "nothing at absent.npz: give",
    "evaluate.py generation --generated labels.npz --reference shapes:9": "labels.npz holds no images: expected arr_0",
    "evaluate.py images --data corrupt": "corrupt/a/1.png is not a readable image * replace or remove",
    # sweeps
    "sweep.py --confg tiny-shapes": "the following arguments are required: --config",
    "sweep.py --config tiny-shape": "no packaged config is called tiny-shape: did you mean tiny-shapes?",
    "sweep.py --config absent.yaml": "no sweep file at absent.yaml: give one, or use one of",
    "sweep.py --config tabs.yaml": "sweep file tabs.yaml, line *: found a tab character that violates indentation",
    "sweep.py --config uncontrolled.yaml": "uncontrolled.yaml, line *: control: is none of autoencoders: use one of",
    "sweep.py --config tiny-shapes seds=[0]": "Key 'seds' not in 'Sweep'. Did you mean: 'seeds'?",
    "sweep.py --config tiny-shapes seeds=[]": "command line, seeds: seeds: is empty or repeats one: give different",
    "sweep.py --config tiny-shapes seeds=[0,0]": "seeds: is empty or repeats one: give different whole numbers",
    "sweep.py --config tiny-shapes evaluation.metrics=[fid]": "evaluation.metrics: use some of fd, fd_inf, sfd",
    "sweep.py --config tiny-shapes evaluation.sampling.sampler=eulr": "sampler 'eulr' is unknown: use one of euler",
    "sweep.py --config tiny-shapes autoencoders.control.at_step=900": "at_step: must lie in 1 to trainer.max_steps, 60",
    "sweep.py --config tiny-shapes start.autoencoder=nowhere": "start.autoencoder: nothing at nowhere, and no packaged",
    "sweep.py --config tiny-shapes root=file": "root: file/tiny-shapes cannot be made: Not a directory",
    "sweep.py --config tiny-shapes root=OUT executor.kind=submitit": "needs the package submitit: pip install",
    # comparisons
    "compare.py shapes-f4c8": "nothing to compare shapes-f4c8 with: give two autoencoders or more",
    "COMPARE --budget soon": "--budget 'soon' is no time: write 90s, 10m or 2h",
    "COMPARE --budget -5m": "--budget needs a value; one that begins with a minus is written --budget=VALUE",
    "COMPARE --buget 5m": "--buget is unknown: did you mean --budget?",
    "COMPARE --image-size 0": "--image-size must be at least 8",
    "COMPARE --fine-tuning-steps 0": "--fine-tuning-steps must be at least 1",
    "COMPARE --output samples": "--output samples holds something else than a comparison: give another folder",
    "compare.py shapes-f4c8 eq:nowhere": "no autoencoder at 'nowhere'",
}
"""Words, by what the line says; * stands for anything."""


@pytest.fixture(scope="module")
def mess(tmp_path_factory, cache):
    """A working folder with what mistakes are made with."""
    folder = tmp_path_factory.mktemp("mess")
    (folder / "empty").mkdir()
    (folder / "file").touch()
    (folder / "broken.yaml").write_text("trainer:\n  max_steps: [1\n")
    np.savez(folder / "labels.npz", labels=np.zeros(3))
    for name in ("samples/notes.txt", "used/checkpoints/last.ckpt", "used/.run.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    _images(folder / "corrupt/a")
    _sweeps(folder)
    _caches(folder, cache)
    _checkpoints(folder)
    with Lock(folder / "busy/.run.lock", "it"):
        yield folder


def _images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), 60 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"no image")


def _sweeps(folder: Path) -> None:
    text = SWEEP.read_text()
    (folder / "tabs.yaml").write_text(text.replace("seeds: [0, 1]", "\tseeds: [0, 1]", 1))
    (folder / "uncontrolled.yaml").write_text(text.replace("control: control", "control: nobody", 1))


def _caches(folder: Path, cache: Path) -> None:
    load_autoencoder("shapes-f4c8").save_pretrained(folder / "other")
    tiny_autoencoder().save_pretrained(folder / "other")
    for name in ("older", "damaged"):
        shutil.copytree(cache, folder / name)
    manifest = json.loads((cache / "manifest.json").read_text())
    (folder / "older/manifest.json").write_text(json.dumps({"format_version": 1, "dataset": manifest["dataset"]}))
    (folder / "damaged/manifest.json").write_text('{"format')


def _checkpoints(folder: Path) -> None:
    tiny_autoencoder().save_pretrained(folder / "autoencoder")
    unconditional = tiny_generator(class_dropout_prob=0.0)
    path = save_generator(unconditional, str(folder / "autoencoder"), folder / "generator.ckpt")
    (folder / "cut").mkdir()
    (folder / "cut/short.ckpt").write_bytes(path.read_bytes()[:4000])
    weights = {f"autoencoder.model.{name}": value for name, value in tiny_autoencoder().model.state_dict().items()}
    about = {"global_step": 1, "pytorch-lightning_version": "2.6.4"}
    torch.save({"state_dict": weights} | about, folder / "stage1.ckpt")


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_with_key_or_file_and_remedy(words, mess, cache, tmp_path, monkeypatch, capsys):
    expected = MISTAKES[words]
    for name, begins in SHORT.items():
        words = words.replace(name, begins)
    monkeypatch.setattr(sys, "argv", shlex.split(words.replace("OUT", str(tmp_path)).replace("CACHE", str(cache))))
    monkeypatch.setitem(sys.modules, "submitit", None)  # as where its extra is not installed
    monkeypatch.setattr("twostage.loading.config_problems", lambda sweep: [])  # seconds, and no mistake of these
    monkeypatch.delenv("EQVAE_DEBUG", raising=False)
    monkeypatch.chdir(mess)
    before = _files(mess)
    with pytest.raises(SystemExit) as stop:
        import_module(f"twostage.cli.{sys.argv[0].removesuffix('.py')}").main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1
    assert line.startswith("error: ")
    place = 0
    for part in expected.split("*"):
        place = line.find(part.strip(), place)
        assert place >= 0, f"{line!r} lacks {part.strip()!r}"
    assert "(trace in" not in line
    assert len(line) < 700
    assert _files(mess) == before
