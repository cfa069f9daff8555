"""What the trainers of latent-diffusion and taming leave beside the autoencoder: the critic, and Adam's moments.

Their checkpoints hold the critic under `loss.discriminator.` and two Adams under `optimizer_states`: first the
autoencoder's, then the critic's. An optimizer numbers its parameters in the order in which it was given them, and does
not name them. Both trainers give them in the order of registration (encoder, decoder, codebook, quant convolutions),
which is the order in which a state dict lists them. So the n-th parameter of an optimizer is the n-th weight of its
network in the file; numbers and every shape are compared before one is believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from eqvae.autoencoders.ldm import PREFIXES, ldm_name, select_autoencoder
from eqvae.weights import read_optimizer_states, read_tensors

CRITIC = "loss.discriminator."
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class AdamState:
    """What an optimizer remembers of a network.

    Args:
        moments: by the network's parameter names, `step` (how many it took) and the moments `exp_avg`, `exp_avg_sq`.
        learning_rate: it was last used with.
    """

    moments: dict[str, dict[str, Tensor]]
    learning_rate: float

    def load_into(self, optimizer: torch.optim.Adam, network: nn.Module) -> None:
        """Give the moments to an optimizer of the network's trained parameters; its settings stay its own."""
        trained = [name for name, value in network.named_parameters() if value.requires_grad]
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": dict(enumerate(map(self.moments.get, trained))), "param_groups": groups})


def read_critic(path: Path) -> dict[str, Tensor]:
    """Weights and BatchNorm's buffers of the PatchGAN critic, float32, by the names of `PatchCritic`.

    Raises:
        ValueError: naming the file, if it holds none, or one with ActNorm, whose layers are others.
    """
    weights = read_tensors(path)
    for start in (prefix + CRITIC for prefix in PREFIXES):
        found = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        if any(key.endswith(".loc") for key in found):
            raise ValueError(
                f"file {path} holds a critic with ActNorm ({start}*.loc), here critics have BatchNorm, as in all "
                "published recipes: start the critic fresh (critic_weights: null)"
            )
        if found:
            dtypes = {key: torch.float32 if value.is_floating_point() else value.dtype for key, value in found.items()}
            return {key: value.to(dtypes[key], copy=True) for key, value in found.items()}
    raise ValueError(
        f"file {path} holds no critic ({CRITIC}*): give a training checkpoint of latent-diffusion or taming, or start "
        "the critic fresh (critic_weights: null)"
    )


def read_autoencoder_adam(path: Path, model: AutoencoderKL | VQModel) -> AdamState:
    """The autoencoder's Adam, by the names of a diffusers model of the same architecture.

    Raises:
        ValueError: naming the file, if it holds no optimizer, or one of another network.
    """
    weights = select_autoencoder(path, read_tensors(path))
    num_levels = len(model.config["block_out_channels"])
    names = {ldm_name(name, num_levels): name for name, _ in model.named_parameters()}
    shapes = {names[key]: value.shape for key, value in weights.items() if key in names}
    return _read_adam(path, 0, "autoencoder", shapes, dict(model.named_parameters()))


def read_critic_adam(path: Path, critic: nn.Module) -> AdamState:
    """The critic's Adam; errors as of `read_autoencoder_adam`."""
    parameters = dict(critic.named_parameters())
    shapes = {key: value.shape for key, value in read_critic(path).items() if key in parameters}
    return _read_adam(path, 1, "critic", shapes, parameters)


def _read_adam(
    path: Path, number: int, what: str, shapes: Mapping[str, torch.Size], parameters: Mapping[str, Tensor]
) -> AdamState:
    """One optimizer of the file; `shapes` of the file's weights by our names, in the file's order."""
    states = read_optimizer_states(path)
    remedy = "start the optimizer fresh (optimizer_state: null)"
    try:
        groups = states[number]["param_groups"]
        keys = [key for group in groups for key in group["params"]]
        entries = [dict(states[number]["state"][key]) for key in keys]
        steps = [torch.tensor(float(entry["step"])) for entry in entries]
        learning_rate = float(groups[0]["lr"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"file {path} holds no whole Adam of the {what} ({error!r}): {remedy}") from None
    if len(entries) != len(shapes) or shapes.keys() != parameters.keys():
        raise ValueError(
            f"file {path}: the {what}'s optimizer has {len(entries)} parameters, the {what} {len(parameters)} "
            f"({len(shapes)} of them in the file): {remedy}"
        )
    moments = {}
    for (name, shape), entry, step in zip(shapes.items(), entries, steps, strict=True):
        if any(not isinstance(entry.get(key), Tensor) or entry[key].shape != shape for key in MOMENTS):
            raise ValueError(
                f"file {path}: the {what}'s optimizer does not fit {name} of shape {list(shape)}: {remedy}"
            )
        own = parameters[name].shape  # attention weights are 1x1 convolutions there and matrices here
        copies = {key: entry[key].to(torch.float32, copy=True).reshape(own) for key in MOMENTS}
        moments[name] = {"step": step} | copies
    return AdamState(moments, learning_rate)
