"""What `train.py` wrote, and what comes next: the cache, a generator on it, samples of that."""

from pathlib import Path
from typing import Any

from eqvae.bases import load_config
from eqvae.latents import LatentSpec, open_cache
from eqvae.packaged import packaged_configs
from eqvae.precision import AUTO
from eqvae.training.cli import TrainCLI
from eqvae.training.last_checkpoint import checkpoint_folder
from twostage.commands.ending import command, end, free

OF_FIT_ALONE = ("--resume", "--overwrite")
WITH_VALUES = ("--ckpt_path", "--previews", "--logger")  # likewise
BACKBONE = "model.init_args.backbone.init_args"


def end_training(cli: TrainCLI, words: list[str]) -> None:
    """Print the last two lines.

    Args:
        words: of the command line, as they were typed.
    """
    root, module = Path(cli.trainer.default_root_dir), cli.model
    last = checkpoint_folder(cli.trainer) / "last.ckpt"
    wrote, following = root, ["tensorboard", "--logdir", str(root)]
    if cli.subcommand == "predict":
        wrote = module.cache_path(root)
        from dit.alignment.cache_module import FeatureCacheModule  # here: its teachers take a second to import

        of_features = isinstance(module, FeatureCacheModule)
        following = command("train", *(_aligned_with(wrote) if of_features else _training_on(wrote)))
    elif cli.subcommand == "fit" and hasattr(module, "export_path"):
        wrote = module.export_path(root)
        following = command("train", "predict", *_without_fit(words))
    elif cli.subcommand == "fit" and last.is_file():
        wrote = last
        if getattr(module, "autoencoder_source", None) is not None:  # else sampling has to be told of one
            following = command("sample", "--checkpoint", last, "--output", free(root / "samples"), "--npz")
    end(wrote, following)


def _without_fit(words: list[str]) -> list[str]:
    """The options of `fit` that `predict` has, too."""
    kept, before = [], ""
    for word in words[1:]:
        option = word.partition("=")[0]
        if option not in (*OF_FIT_ALONE, *WITH_VALUES) and before not in WITH_VALUES:
            kept.append(word)
        before = word
    return kept


def _training_on(folder: Path) -> list[str]:
    """Words that train a generator on a cache: the shortest packaged training that fits it, or one that is made to."""
    cache = open_cache(folder, verify=False)
    wanted = cache.spec.backbone_config | {"num_classes": cache.num_classes}
    name, config = _closest(wanted)
    backbone = config["model"]["init_args"]["backbone"]["init_args"]
    asked = [key for key, value in wanted.items() if backbone.get(key) not in (value, AUTO)]
    root = Path(config["trainer"]["default_root_dir"])
    changes: dict[str, object] = {"data.init_args.cache": folder}
    if not folder.with_name(f"{folder.name}-validation").is_dir():
        changes["data.init_args.validation_cache"] = "null"
    if free(root) != root:
        changes["trainer.default_root_dir"] = free(root)
    if "input_size" in asked and not _patch_fits(cache.spec, backbone):
        asked.append("patch_size")
    changes |= {f"{BACKBONE}.{key}": AUTO for key in asked}
    return ["fit", "--config", name, *(f"--{key}={value}" for key, value in changes.items())]


def _patch_fits(spec: LatentSpec, backbone: dict[str, Any]) -> bool:
    """Whether the patch of a config is what `auto` stands for."""
    from dit.backbones import PUBLISHED  # here: transformers take a second to import, and stage 1 has none
    from dit.following import fitting_patch

    if spec.kind == "tokens":
        return True
    patch = backbone.get("patch_size") or PUBLISHED[backbone["name"]][1]["patch_size"]
    return patch in (AUTO, fitting_patch(spec, backbone))


def _aligned_with(folder: Path) -> list[str]:
    """Words that show a training with these features; latents of the same images only a person can name."""
    return ["fit", "--config", "tiny-repa", f"--data.init_args.features={folder}", "--print_config"]


def _closest(wanted: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The packaged training with the fewest keys of its backbone to change; of equal ones the shortest, SiT first."""
    found = {}
    for name, paths in packaged_configs(("dit",)).items():
        config: Any = load_config(paths[0])
        settings = config["model"]["init_args"]
        backbone = (settings.get("backbone") or {}).get("init_args")
        if backbone is None or settings.get("alignment") or ("num_codes" in backbone) != ("num_codes" in wanted):
            continue
        num_changes = sum(backbone.get(key) not in (value, AUTO) for key, value in wanted.items())
        found[num_changes, config["trainer"]["max_steps"], "sit" not in name, name] = config
    best = min(found)
    return best[-1], found[best]
