"""What a fit starts from, and what it settles before its first step: critic, optimizers, learning rate, image sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from eqvae.autoencoders import Autoencoder
from eqvae.autoencoders.training_files import AdamState, read_autoencoder_adam, read_critic, read_critic_adam
from eqvae.losses import PatchCritic


class TrainingStart:
    """Critic and optimizers as a public training checkpoint left them, or fresh; and the learning rate.

    A training checkpoint is a path, "autoencoder" for the file that the autoencoder comes from, or None to start fresh.

    Args:
        autoencoder_file: the file that the autoencoder comes from; None where it is none.
        critic_weights: training checkpoint of the critic's weights.
        optimizer_state: training checkpoint of Adam's moments; the critic's are taken where its weights are.
        learning_rate: base value, or "restored": that of the checkpoint's optimizers.
        scale: multiply it by the images of a step, as latent-diffusion does.

    Raises:
        ValueError: for a file that is not there, or settings that contradict each other.
    """

    def __init__(
        self,
        autoencoder_file: Path | None,
        critic_weights: str | None,
        optimizer_state: str | None,
        learning_rate: float | Literal["restored"],
        scale: bool,
    ):
        self.critic_file = _training_file(critic_weights, autoencoder_file, "adversarial.critic_weights")
        self.optimizer_file = _training_file(optimizer_state, autoencoder_file, "optimizer_state")
        self.learning_rate, self.scale = learning_rate, scale
        if learning_rate == "restored" and (scale or self.optimizer_file is None):
            raise ValueError("learning_rate restored is that of optimizer_state: give one, and do not scale it")
        if self.critic_file and self.optimizer_file and not self.critic_file.samefile(self.optimizer_file):
            raise ValueError("adversarial.critic_weights and optimizer_state name two files: moments are of one critic")

    @property
    def base_learning_rate(self) -> float:
        """The number, known once the optimizers are restored."""
        assert not isinstance(self.learning_rate, str), "restored with the optimizers"
        return self.learning_rate

    def load_critic(self, critic: PatchCritic) -> None:
        """Weights and BatchNorm's statistics, where a checkpoint is to give them.

        Raises:
            ValueError: naming the file, if it holds no critic, or one of other layers.
        """
        if self.critic_file is None:
            return
        state, own = read_critic(self.critic_file), critic.state_dict()
        if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in own.items()}:
            num_layers = sum(value.ndim == 4 for value in state.values()) - 2
            raise ValueError(
                f"file {self.critic_file} holds a critic of num_layers {num_layers}, base_channels "
                f"{_base_channels(state)}; adversarial has {critic.num_layers}, {_base_channels(own)}: set the file's"
            )
        critic.load_state_dict(state)

    def restore_optimizers(
        self,
        optimizers: list[torch.optim.Adam],
        autoencoder: Autoencoder,
        critic: PatchCritic | None,
    ) -> None:
        """Adam's moments, where a checkpoint is to give them; prints its learning rate, and takes it if asked to.

        Raises:
            ValueError: naming the file, if they do not fit, or have two learning rates.
        """
        path = self.optimizer_file
        if path is None:
            return
        states: list[tuple[nn.Module, AdamState]] = [
            (autoencoder.model, read_autoencoder_adam(path, autoencoder.model))
        ]
        if critic is not None and self.critic_file is not None:
            states.append((critic, read_critic_adam(path, critic)))
        rates = {state.learning_rate for _, state in states}
        if len(rates) > 1:
            raise ValueError(f"file {path}: its optimizers have the learning rates {sorted(rates)}, here both have one")
        for optimizer, (network, state) in zip(optimizers, states, strict=False):  # a fresh critic's stays fresh
            state.load_into(optimizer, network)
        rank_zero_info(f"optimizers restored from {path}, last used with learning rate {min(rates):g}")
        if self.learning_rate == "restored":
            self.learning_rate = min(rates)

    def settle_learning_rate(self, devices: int, images: int, batches: int) -> float:
        """The learning rate of the run, which is printed with what it is made of.

        Args:
            devices: that train together.
            images: per device and batch.
            batches: that are accumulated into one step.
        """
        base = self.base_learning_rate
        if not self.scale:
            rank_zero_info(f"learning rate {base:g}")
            return base
        rate = base * devices * images * batches
        factors = f"{devices} devices x {images} images x {batches} batches"
        rank_zero_info(f"learning rate {rate:g} = {base:g} x {factors}")
        return rate


def _training_file(choice: str | None, autoencoder_file: Path | None, option: str) -> Path | None:
    if choice is None:
        return None
    path = autoencoder_file if choice == "autoencoder" else Path(choice)
    if path is None:
        raise ValueError(f"{option} autoencoder: the autoencoder comes from no single file: give a checkpoint's path")
    if not path.is_file():
        raise ValueError(f"{option}: no file at {path}: give a training checkpoint, autoencoder, or null")
    return path


def _base_channels(state: Mapping[str, torch.Tensor]) -> int:
    return len(state["main.0.weight"]) if "main.0.weight" in state else 0
