"""The PatchGAN critic and the adaptive weight of its loss (Esser et al., "Taming transformers", 2021, eq. 6-7)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqvae.losses.balance import gradient_norm, norm_ratio
from eqvae.ranges import require_choice, require_number

MAXIMUM_WEIGHT = 1e4
NUM_GROUPS = 32  # of channels that are normalized together; fewer where they do not divide
Norm = Literal["batch", "group"]


class PatchCritic(nn.Module):
    """PatchGAN: one realness logit per overlapping patch; keys as in taming's discriminator (`main.0.weight`, ...).

    Args:
        num_layers: stride-2 layers; 3 sees patches of 70 x 70 pixels, 2 of 34 x 34.
        base_channels: filters of the first layer; doubled in each of the next, up to 8 times.
        in_channels: of the images.
        norm: see `AdversarialLoss`.
    """

    def __init__(self, num_layers: int = 3, base_channels: int = 64, in_channels: int = 3, norm: Norm = "batch"):
        super().__init__()
        channels = [base_channels * min(2**n, 8) for n in range(num_layers + 1)]
        layers = [nn.Conv2d(in_channels, channels[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for n in range(1, num_layers + 1):
            stride = 2 if n < num_layers else 1
            convolution = nn.Conv2d(channels[n - 1], channels[n], 4, stride, 1, bias=False)
            layers += [convolution, _norm(norm, channels[n]), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 4, 1, 1))
        self.num_layers = num_layers
        self.smallest_side = 3 * 2**num_layers  # three rows before the last two layers, which take one each
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to logits [B, 1, h, w].

        Raises:
            ValueError: for images smaller than `smallest_side`.
        """
        if min(images.shape[-2:]) < self.smallest_side:
            raise ValueError(
                f"the critic cannot judge {images.shape[-2]} x {images.shape[-1]} pixels, below {self.smallest_side}: "
                "use larger images, fewer critic layers, or adversarial: null"
            )
        return self.main(images)


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(math.gcd(NUM_GROUPS, channels), channels)


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(layer.weight, 1.0, 0.02)


class AdversarialLoss:
    """When and how strongly the critic takes part; both sides of its loss.

    Args:
        kind: "hinge" or "vanilla" (the critic's loss; the generator's is -mean logit in both).
        weight: of the generator's part, on top of the adaptive weight (disc_weight of latent-diffusion).
        start_step: first step at which the critic takes part (disc_start).
        ramp_steps: steps over which the generator's part grows from zero to its weight; 0 starts at once, as
            published, which users saw damage reconstructions.
        num_layers, base_channels: of the `PatchCritic`.
        critic_weights: what the critic starts from: a training checkpoint of latent-diffusion or taming, "autoencoder"
            for the file that the autoencoder came from, or None for random weights.
        norm: "batch" as published, whose statistics are those of the images that one device sees at once, or "group",
            those of each image, so that the number of devices does not matter.

    Raises:
        ValueError: for another kind or norm, a number below 0, or `critic_weights` for a norm that no published critic
            has.
    """

    def __init__(
        self,
        kind: Literal["hinge", "vanilla"] = "hinge",
        weight: float = 0.5,
        start_step: int = 0,
        num_layers: int = 3,
        base_channels: int = 64,
        ramp_steps: int = 0,
        critic_weights: str | None = None,
        norm: Norm = "batch",
    ):
        if norm not in ("batch", "group"):
            raise ValueError(f"adversarial.norm {norm!r} is unknown: use batch or group")
        require_choice("adversarial.kind", kind, ("hinge", "vanilla"))
        counts = {"start_step": start_step, "num_layers": num_layers, "ramp_steps": ramp_steps}
        for name, value in (counts | {"weight": weight}).items():
            require_number(f"adversarial.{name}", value, least=0)
        if norm == "group" and critic_weights:
            raise ValueError(
                "adversarial.norm group starts a critic afresh: set critic_weights to null, or norm to batch"
            )
        self.norm: Norm = norm
        self.kind, self.weight, self.start_step = kind, weight, start_step
        self.num_layers, self.base_channels = num_layers, base_channels
        self.ramp_steps, self.critic_weights = ramp_steps, critic_weights

    def create_critic(self, seed: int = 0) -> PatchCritic:
        """A critic of random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return PatchCritic(self.num_layers, self.base_channels, norm=self.norm)

    def active(self, step: int) -> bool:
        return step >= self.start_step

    def factor(self, step: int) -> float:
        """Share of the generator's part at a step, in [0, 1]."""
        if not self.active(step):
            return 0.0
        return min(1.0, (step - self.start_step + 1) / (self.ramp_steps + 1))

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()

    def critic_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        if self.kind == "hinge":
            return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
        return 0.5 * (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())

    def adaptive_weight(self, images: Tensor, nll_grad: Tensor, gan_grad: Tensor, last_layer: Tensor) -> Tensor:
        """Ratio of the two gradients' norms at the decoder's last layer, clamped, times `weight`: a scalar.

        Takes the gradients at the decoded images, so neither the perceptual network nor the critic runs backward
        again for it. The gradients are those of the global batch: averaged over devices before their norms.

        Args:
            images: decoded images [B, 3, H, W], still attached to the decoder.
            nll_grad, gan_grad: gradients of the two losses with respect to `images`.
            last_layer: weight of the decoder's last convolution.
        """
        nll_norm, gan_norm = (gradient_norm(images, last_layer, grad) for grad in (nll_grad, gan_grad))
        return norm_ratio(nll_norm, gan_norm, MAXIMUM_WEIGHT) * self.weight
