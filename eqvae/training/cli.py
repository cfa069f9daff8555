"""The command line of `train.py`: LightningCLI for both stages, with an allow-list and one-line errors."""

import os
import re
import sys
from collections.abc import Callable

import jsonargparse
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import StrategyRegistry

from eqvae.training.checkpoints import AtomicCheckpointIO
from eqvae.training.sharding import FullyShardedStrategy
from eqvae.training.signals import SaveOnSignal

ALLOWED_CLASSES = [
    "eqvae",
    "dit",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.plugins",
    "lightning.pytorch.trainer",
]

StrategyRegistry.register("fsdp2", FullyShardedStrategy)

RENAMED_OPTIONS = {
    "batch_size": "data.init_args.batch_size was per device and is gone: set data.init_args.global_batch_size, the "
    "number per optimizer step of all devices and accumulated batches together",
}
WORKER_ERROR = r"\ACaught .* in DataLoader worker process.*^[\w.]+: (.*)"
CONSTRUCTOR_ERROR = r"Errors: - (?:Problem with given class_path )?(.*?)(?: - Expected a <class| Given value)"


def allow_only_own_classes() -> None:
    """Make the parser refuse, before importing it, any class outside the allow-list (for this process)."""
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=ALLOWED_CLASSES,
        omegaconf_absolute_to_relative_paths=True,  # interpolation also works below a subcommand
    )


class _Parser(LightningArgumentParser):
    """Names the new option where an old one is given."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        for name, remedy in RENAMED_OPTIONS.items():
            if f"Option '{name}' is not accepted" in message:
                print(f"error: {remedy}", file=sys.stderr)
                sys.exit(2)
        super().error(message, ex)


class TrainCLI(LightningCLI):
    """Both stages by `class_path`, YAML with OmegaConf interpolation, checkpoints through `AtomicCheckpointIO`.

    Every run answers signals by `SaveOnSignal`.

    Args:
        args: command line or a dict of options; None reads sys.argv.
        run: False only builds `trainer`, `model` and `datamodule`.
        trainer_defaults: further defaults of the trainer.
    """

    def __init__(self, args=None, run: bool = True, trainer_defaults: dict | None = None):
        allow_only_own_classes()
        plugins = [{"class_path": f"{AtomicCheckpointIO.__module__}.{AtomicCheckpointIO.__name__}"}]
        if SLURMEnvironment.detect():  # Lightning's own requeueing saves inside the signal handler, within a step
            environment = f"{SLURMEnvironment.__module__}.{SLURMEnvironment.__name__}"
            plugins.append({"class_path": environment, "init_args": {"auto_requeue": False}})
        trainer_defaults = trainer_defaults or {}
        defaults = {
            "plugins": plugins,
            "use_distributed_sampler": False,  # our sampler addresses the global batch by position
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
        }
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            parser_class=_Parser,
            save_config_callback=SaveConfigCallback if run else None,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"parser_mode": "omegaconf+"},
            trainer_defaults=defaults
            | trainer_defaults
            | {"callbacks": [*trainer_defaults.get("callbacks", []), SaveOnSignal()]},
            args=args,
            run=run,
        )

    def before_instantiate_classes(self) -> None:
        strategy = str(self._get(self.config, "trainer").strategy)
        if strategy.startswith("fsdp") and strategy != "fsdp2":
            raise ValueError(f"trainer.strategy {strategy}: moving averages cannot be sharded by it; use fsdp2")


def run_command(command: Callable[[], None]) -> None:
    """Run a script's main; a user's error becomes one line and exit code 1. EQVAE_DEBUG=1 shows the traceback."""
    try:
        command()
    except (ValueError, OSError) as error:
        if os.environ.get("EQVAE_DEBUG"):
            raise
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        sys.exit(1)


def one_line(message: str) -> str:
    """What went wrong, out of a loader process's trace or the parser's account of every type that it tried."""
    of_worker = re.search(WORKER_ERROR, message, re.DOTALL | re.MULTILINE)
    message = " ".join((of_worker[1] if of_worker else message).split())
    found = re.findall(CONSTRUCTOR_ERROR, message)
    return found[-1] if found else message
