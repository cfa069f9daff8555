"""The command line of `train.py`: LightningCLI for both stages, with an allow-list and one-line errors."""

import argparse
import sys
from typing import Any, Literal, cast

import jsonargparse
import torch
import yaml
from lightning.fabric.connector import _PRECISION_INPUT
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from omegaconf.errors import OmegaConfBaseException

from eqvae.commands import one_line
from eqvae.plugins import OPTION, PluginOption, find_class, plugins, take_plugins
from eqvae.precision import (
    AUTO,
    ENCODING_PRECISIONS,
    TRAINER_PRECISIONS,
    Float32Products,
    choose_precision,
    float32_products,
)
from eqvae.training.checkpoints import AtomicCheckpointIO, checkpoint_step, load_checkpoint, newest_checkpoint
from eqvae.training.config_words import name_of_configs, with_contents
from eqvae.training.last_checkpoint import LastCheckpoint, checkpoint_folder
from eqvae.training.loggers import LOGGERS, create_loggers, takes_images
from eqvae.training.messages import leave_out_noise
from eqvae.training.parsing import explain
from eqvae.training.progress import TrainingProgress
from eqvae.training.resuming import ResumeExactly
from eqvae.training.run_folder import RunFolder
from eqvae.training.run_log import RunLog
from eqvae.training.settings import NAME, require_resumable, require_same_network, settings_of
from eqvae.training.sharding import FullyShardedStrategy
from eqvae.training.signals import SaveOnSignal
from eqvae.training.throughput import ThroughputMonitor
from eqvae.training.whole_work import require_whole_work

ALLOWED_CLASSES = [
    "eqvae",
    "dit",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.plugins",
    "lightning.pytorch.trainer",
    "lightning.fabric.plugins.environments",
]

NOT_OFFERED = ("optimizer", "lr_scheduler")
"""Options that stay null, as in configs that earlier runs have saved."""

StrategyRegistry.register("fsdp2", FullyShardedStrategy)


def allow_only_known_classes() -> None:
    """Make the parser of this process refuse all classes but ours, Lightning's and those of plug-ins, unimported."""
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*ALLOWED_CLASSES, *plugins()],
        omegaconf_absolute_to_relative_paths=True,  # interpolation also works below a subcommand
    )


class _Trainer(Trainer):
    """Lightning's, whose precision may also be chosen here (`TrainCLI`), and that of float32 products set.

    Args:
        float32_matmul_precision: see `eqvae.precision.float32_products`; of whatever this trainer runs, and no longer.
    """

    def __init__(
        self,
        *arguments: Any,
        precision: _PRECISION_INPUT | Literal["auto"] | None = None,
        float32_matmul_precision: Float32Products = "highest",
        **options: Any,
    ):
        assert precision != AUTO, "chosen before"
        self.float32_matmul_precision: Float32Products = float32_matmul_precision
        super().__init__(*arguments, precision=precision, **options)

    def _run_stage(self) -> Any:
        with float32_products(self.float32_matmul_precision, self.strategy.root_device):
            return super()._run_stage()


class TrainCLI(LightningCLI):
    """Both stages by `class_path`, YAML with OmegaConf interpolation, checkpoints through `AtomicCheckpointIO`.

    A run has its folder to itself, keeps its newest state in `last.ckpt`, answers signals by `SaveOnSignal`, and shows
    one `TrainingProgress` line.

    Args:
        args: command line or a dict of options; None reads sys.argv.
        run: False only builds `trainer`, `model` and `datamodule`.
        trainer_defaults: further defaults of the trainer.
    """

    def __init__(self, args: Any = None, run: bool = True, trainer_defaults: dict | None = None):
        args = take_plugins(args) if isinstance(args, list) else args
        words = sys.argv[1:] if args is None else args
        self._first_word = words[0] if isinstance(words, list) and words else None
        leave_out_noise()
        allow_only_known_classes()
        atomic = f"{AtomicCheckpointIO.__module__}.{AtomicCheckpointIO.__name__}"
        lightning_plugins: list[dict[str, Any]] = [{"class_path": atomic}]
        # Lightning's own requeueing saves inside the signal handler, within a step; torchrun's processes are no tasks.
        if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
            environment = f"{SLURMEnvironment.__module__}.{SLURMEnvironment.__name__}"
            lightning_plugins.append({"class_path": environment, "init_args": {"auto_requeue": False}})
        defaults = {
            "plugins": lightning_plugins,
            "use_distributed_sampler": False,  # our sampler addresses the global batch by position
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,  # modules say their size in a line of their own
        }
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=_Trainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=SaveConfigCallback if run else None,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"parser_mode": "omegaconf+"},
            trainer_defaults=defaults | (trainer_defaults or {}),
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        return super().init_parser(exit_on_error=False, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the command line and its files.

        Raises:
            ValueError: one line with the key, what is wrong with it, and what is most like it.
        """
        words = sys.argv[1:] if args is None else args
        self.config_name = name_of_configs(words) if isinstance(words, list) else None
        words = with_contents(words) if isinstance(words, list) else words
        subparsers = getattr(self, "_subcommand_parsers", {})
        chosen = next((subparsers[word] for word in words if word in subparsers), parser)
        try:
            self.config = parser.parse_args(words) if isinstance(words, list) else parser.parse_object(words)
        except (argparse.ArgumentError, OmegaConfBaseException) as error:
            raise ValueError(explain(str(error), chosen._option_string_actions)) from None

    def before_instantiate_classes(self) -> None:
        strategy, accelerator = (str(self._get(self.config, "trainer")[name]) for name in ("strategy", "accelerator"))
        if strategy.startswith("fsdp") and strategy != "fsdp2":
            raise ValueError(f"trainer.strategy {strategy}: moving averages cannot be sharded by it; use fsdp2")
        if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise ValueError(f"trainer.accelerator {accelerator}: torch finds none here; set it to cpu or auto")
        require_whole_work(self.subcommand, self._get(self.config, "trainer"))
        self._choose_precision(accelerator)
        self._settle()
        self.resume, self.overwrite, self.logger_names, self.num_shown = False, False, None, 0
        if self.subcommand == "fit":
            config = self.config.fit
            if config.trainer.max_steps < 1:
                raise ValueError(
                    f"trainer.max_steps {config.trainer.max_steps}: give 1 or more: training counts steps, not epochs"
                )
            if config.previews < 0:
                raise ValueError(f"--previews {config.previews}: give how often, or 0 for never")
            self.logger_names, self.num_shown = config.logger, config.previews
            # Of this start alone: the config that is saved must not repeat them.
            self.resume, self.overwrite, config.resume, config.overwrite = config.resume, config.overwrite, False, False

    def _settle(self) -> None:
        """What the model's config leaves to its data (`settle` of its class); the config that is saved says it."""
        model, data = (self._get(self.config, part) for part in ("model", "data"))
        if settle := getattr(find_class(model["class_path"]), "settle", None):
            settle(model, data)

    def _choose_precision(self, accelerator: str) -> None:
        """What `trainer.precision: auto` stands for on this device; the config that is saved says it."""
        settings = self._get(self.config, "trainer")
        if settings["precision"] == AUTO:
            on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
            chosen, reason = choose_precision(torch.device("cuda" if on_gpu else "cpu"))
            settings["precision"] = dict(zip(ENCODING_PRECISIONS, TRAINER_PRECISIONS, strict=True))[chosen]
            rank_zero_info(reason)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what a class refuses comes without the parser's account of the types tried."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            while isinstance(error.__cause__, ValueError):
                error = error.__cause__
            raise error from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self._dump_config()
        self._add_progress()
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise ValueError(f"trainer: {one_line(str(error))}") from None
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback.dirpath = callback.dirpath or str(checkpoint_folder(trainer))
                callback.filename = callback.filename or "{epoch}-{step:07d}"  # names in the order of steps
        if self.logger_names is not None:
            trainer.loggers = create_loggers(self.logger_names, trainer.default_root_dir)
        self.model.config_name = self.config_name
        settings = settings_of(self.config_dump) | ({NAME: self.config_name} if self.config_name else {})
        callbacks = cast(list[Callback], vars(trainer)["callbacks"])
        if not any(isinstance(callback, ThroughputMonitor) for callback in callbacks):
            callbacks.append(ThroughputMonitor())
        self._show_images(trainer, callbacks)
        callbacks += [RunLog(settings), ResumeExactly(settings), LastCheckpoint(), SaveOnSignal()]
        return trainer

    def _show_images(self, trainer: Trainer, callbacks: list[Callback]) -> None:
        """What shows images of the module that is trained, where a logger takes them and the config names none."""
        place = getattr(self.model, "shown_by", None)
        if not self.num_shown or place is None or not any(map(takes_images, trainer.loggers)):
            return
        kind = find_class(place)
        if not any(isinstance(callback, kind) for callback in callbacks):
            callbacks.append(kind.of_run(max(1, trainer.max_steps // self.num_shown)))

    def _dump_config(self) -> None:
        """Lightning's, but what has been parsed is not checked once more: a tenth of a second of every start."""
        if not hasattr(self, "config_dump"):
            options = {"skip_link_targets": False, "skip_unset": False, "skip_validation": True}
            self.config_dump = yaml.safe_load(self.parser.dump(self.config, format="yaml", **options))
            if self.subcommand:
                self.config_dump = self.config_dump[self.subcommand]

    def _add_progress(self) -> None:
        """Our progress line, where there is to be one and the config names no other."""
        settings = self._get(self.config_init, "trainer")
        given, added = settings["callbacks"] or [], self.trainer_defaults.get("callbacks") or []
        callbacks = [*(given if isinstance(given, list) else [given]), *added]
        if settings["enable_progress_bar"] is not False and not any(isinstance(one, ProgressBar) for one in callbacks):
            self.trainer_defaults["callbacks"] = [*added, TrainingProgress()]

    def fit(self, model: Any = None, datamodule: Any = None, ckpt_path: str | None = None, **options: Any) -> None:
        """What `train.py fit` does: claim the run's folder, and train from where it is to go on."""
        for theirs, (ours, usual) in getattr(self.model, "in_place_of_trainers", {}).items():
            if getattr(self.trainer, theirs) not in (usual, 0):
                raise ValueError(f"trainer.{theirs}: this module has model.init_args.{ours} in its place")
        folder = RunFolder.of(self.trainer, self.model)
        self._require_startable(ckpt_path if self.overwrite else None)
        if not self.trainer.is_global_zero:
            folder.require_startable(ckpt_path, self.resume, self.overwrite)  # or it waits for a first one that ended
            self.train(folder.newest() if self.resume else ckpt_path, **options)
            return
        with folder.lock:
            checkpoint = folder.first_checkpoint(ckpt_path, self.resume, self.overwrite)
            if self.overwrite and folder.exported is not None:
                self.model.remove_export(folder.exported)
            self.train(checkpoint, **options)

    def _require_startable(self, checkpoint: str | None) -> None:
        """Refuse what the training would stop at, before its folder is marked, or an earlier run removed for it.

        Args:
            checkpoint: to read already, since the run that holds it may be removed.

        Raises:
            ValueError: naming a checkpoint or cache that cannot be read.
        """
        if checkpoint:
            require_resumable(checkpoint, settings_of(self.config_dump), self.model)
        if self.datamodule is not None:
            self.datamodule.trainer = self.trainer
            self.datamodule.setup("fit")

    def train(self, checkpoint: str | None = None, **options: Any) -> None:
        """Train from a checkpoint to `max_steps`; of a training that is there already, only make what it ends with.

        Raises:
            ValueError: naming a checkpoint that is damaged, of another network, or has more steps than that; and a
                setting that cannot change.
        """
        steps = checkpoint_step(checkpoint) if checkpoint else 0
        for change in require_resumable(checkpoint, settings_of(self.config_dump), self.model) if checkpoint else ():
            rank_zero_info(f"changed: {change}")
        if steps > self.trainer.max_steps:
            raise ValueError(f"{checkpoint} has {steps} steps, trainer.max_steps is {self.trainer.max_steps}: raise it")
        if steps < self.trainer.max_steps:
            self.trainer.fit(self.model, self.datamodule, ckpt_path=checkpoint, **options)
            if steps < self.trainer.global_step < self.trainer.max_steps:
                whole = f"step {self.trainer.global_step} of {self.trainer.max_steps}"
                rank_zero_warn(f"the training ended at {whole}, and so far is what it leaves")
            return
        rank_zero_info(f"{checkpoint} has all {steps} steps: there is nothing to train")
        exported = RunFolder.of(self.trainer, self.model).exported
        if self.trainer.is_global_zero and exported is not None:
            assert checkpoint is not None, "without one no step is done"
            content = load_checkpoint(checkpoint)
            self.model.require_images(content, self.datamodule)
            self.model.load_state_dict(content["state_dict"])
            self.model.to(self.trainer.strategy.root_device)
            self.model.export(self.datamodule, exported, steps)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        options = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand in ("validate", "test") and getattr(self.model, "is_measured_by_checkpoint", False):
            options["ckpt_path"] = options.get("ckpt_path") or self._newest_to_measure()
        if subcommand != "fit" and options.get("ckpt_path"):
            require_same_network(options["ckpt_path"], self.model)
        return options

    def _newest_to_measure(self) -> str:
        folder = RunFolder.of(self.trainer, self.model)
        newest = newest_checkpoint(folder.checkpoints)
        if newest.path is None:
            raise ValueError(f"run folder {folder.root} has no intact checkpoint to measure: give --ckpt_path")
        rank_zero_info(f"measured: {newest.path}, step {newest.step}")
        return str(newest.path)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if self._first_word in self.subcommands() and self._first_word != subcommand:
            return self.init_parser(**kwargs)  # only named in a list: 0.05 s less for three
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.add_argument(OPTION, action=PluginOption)
        for action in parser._actions:  # modules have optimizers of their own, and no class of torch is allowed
            if action.dest.split(".")[0] in NOT_OFFERED:
                action.help = argparse.SUPPRESS
        if subcommand == "fit":
            parser.add_argument("--resume", action="store_true", help="continue from the newest intact checkpoint")
            parser.add_argument("--overwrite", action="store_true", help="remove an earlier run of this folder first")
            help_ = "how often in the run its loggers are shown images of what it learns, where the config does not say"
            parser.add_argument("--previews", type=int, default=4, help=help_)
            help_ = f"in place of trainer.logger: one or more of {', '.join(LOGGERS)}, separated by commas"
            parser.add_argument("--logger", type=str | None, default=None, help=help_, metavar="NAMES")
        return parser

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let hyperparameters in a checkpoint win over the command line, without a word."""
