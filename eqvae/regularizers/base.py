"""What may be asked of latents beside reconstruction: one interface for EQ-VAE and its rivals.

A regularizer draws what it does in a step, an `Action`, as a function of seed, step and images alone. The action says
what becomes of images before they are encoded, of latents before they are decoded, of the images that the decoded ones
should equal, and which terms join the loss. A method is the formula of its action; who trains runs any of them.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from eqvae.autoencoders import Autoencoder, Codes, Posterior, Term
from eqvae.randomness import keyed_normal, keyed_uniform

Size = tuple[int, int]


@dataclass(frozen=True)
class StepKey:
    """What the draws of a step are a function of.

    Args:
        seed: of the run.
        step: of the optimizer.
        latent_size: (h, w) of the latents of whole images.
        images: [B] keys of the images, for draws per image (`eqvae.randomness`); None where there are none.
        rank: of the device, for draws that differ between devices.
        stream: "" for the autoencoder's own pass, "critic" for the one that the critic sees.
    """

    seed: int
    step: int
    latent_size: Size
    images: Tensor | None = None
    rank: int = 0
    stream: str = ""

    def generator(self, name: str) -> random.Random:
        """Draws of a step that are the same on every device, after a resume, and for any batch size."""
        return random.Random(f"{self.stream} {name}/{self.seed}/{self.step}".lstrip())

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Draws of each image from (0, 1), [B, ...] of this shape: the same in whatever batch the image comes."""
        assert self.images is not None, "draws of each image need their keys"
        return keyed_uniform(self.images, shape, seed=self.seed, stream=f"{self.stream} {name}".lstrip())

    def normal(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal draws of each image, [B, ...] of this shape: the same in whatever batch the image comes."""
        assert self.images is not None, "draws of each image need their keys"
        return keyed_normal(self.images, shape, seed=self.seed, stream=f"{self.stream} {name}".lstrip())


class Reconstruction(NamedTuple):
    """One forward pass of the autoencoder: what was decoded, what it should equal, and what it came from.

    Args:
        images: [B, 3, h, w] decoded.
        target: [B, 3, h, w].
        latents: [B, C, h, w] of the posterior: a sample, or features; before any action on them.
        acted: those that were decoded: after all actions on them.
        posterior: of `encoded`.
        codes: that were decoded, of an autoencoder with a codebook.
        encoded: [B, 3, H, W], the images as the encoder took them.
    """

    images: Tensor
    target: Tensor
    latents: Tensor
    acted: Tensor
    posterior: Posterior
    codes: Codes | None
    encoded: Tensor


class Pass(NamedTuple):
    """What terms are computed from.

    Args:
        autoencoder: that trains.
        result: of its forward pass.
        distance: of decoded images from their target, both [B, 3, H, W]: the scalar that training minimizes.
    """

    autoencoder: Autoencoder
    result: Reconstruction
    distance: Callable[[Tensor, Tensor], Tensor]


class Action:
    """What a regularizer does in one step; here nothing."""

    changes_input = False  # whether `on_images` does anything, so that the images have another posterior

    def on_images(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] before they are encoded."""
        return images

    def on_latents(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] of the posterior before they are decoded."""
        return latents

    def on_target(self, images: Tensor) -> Tensor:
        """Images as they were encoded to those that the decoded ones should equal."""
        return images

    def terms(self, step: Pass) -> list[Term]:
        """What joins the loss; the same names on every device."""
        return []


class Passes(NamedTuple):
    """Forward passes that a step takes on average beside one of encoder and one of decoder."""

    encoder: float = 0.0
    decoder: float = 0.0


class LatentRegularizer(nn.Module, ABC):
    """One method; parameters of its own train with the autoencoder's, and are not exported.

    Attributes:
        name: of its draws, and of its terms in the log; one of each name in a list.
        resizes: whether images or latents change their size by what it draws; one in a list may.
        adaptive: whether a term of it is, whose gradient at the encoder is taken before the step's.
    """

    name: str
    resizes: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False

    def prepare(self, autoencoder: Autoencoder) -> None:
        """Make what depends on the autoencoder.

        Raises:
            ValueError: if the method does not apply to it.
        """

    @property
    def fresh_for_critic(self) -> bool:
        """Whether the critic sees a pass with draws of its own, not the autoencoder's."""
        return False

    @abstractmethod
    def draw(self, key: StepKey) -> Action:
        """What a step does: a function of the key."""

    def smallest_side(self, latent_size: Size) -> int:
        """Shorter side of the smallest latents that a step can encode to or decode, of latents [h, w]."""
        return min(latent_size)

    def smallest_compared(self, latent_size: Size) -> int:
        """The same of those whose reconstruction the loss compares with its target."""
        return self.smallest_side(latent_size)

    def smallest_shown(self, latent_size: Size) -> int:
        """The same of those whose reconstruction the critic sees, which second passes are not."""
        return self.smallest_compared(latent_size)

    def describe(self) -> str:
        """Its name, then after a colon the settings that a model card tells."""
        return self.name

    def extra_passes(self) -> Passes:
        """What it costs."""
        return Passes()

    def critic_passes(self) -> Passes:
        """What a pass of the critic's own costs beside that, without gradients."""
        return Passes()


class Actions(Action):
    """Several actions as one, in their order.

    Args:
        actions: of the regularizers of a step.
    """

    def __init__(self, actions: Sequence[Action]):
        self.actions = actions
        self.changes_input = any(action.changes_input for action in actions)

    def on_images(self, images: Tensor) -> Tensor:
        for action in self.actions:
            images = action.on_images(images)
        return images

    def on_latents(self, latents: Tensor) -> Tensor:
        for action in self.actions:
            latents = action.on_latents(latents)
        return latents

    def on_target(self, images: Tensor) -> Tensor:
        for action in self.actions:
            images = action.on_target(images)
        return images

    def terms(self, step: Pass) -> list[Term]:
        return [term for action in self.actions for term in action.terms(step)]


SOME_SIZE = (64, 64)  # of latents, to ask whether a regularizer shrinks them


class Regularizers(nn.ModuleList):
    """All regularizers of a training, as one; none of them is the ordinary loss.

    Args:
        regularizers: in the order in which they act; what they cost adds up.
        autoencoder: that trains.

    Raises:
        ValueError: for two of one name, two that resize, one that shrinks latents of an autoencoder that makes images
            of one side, or one that does not apply to the autoencoder.
    """

    def __init__(self, regularizers: Sequence[LatentRegularizer], autoencoder: Autoencoder):
        super().__init__(regularizers)
        names = [regularizer.name for regularizer in regularizers]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"regularizers: {twice[0]} stands there {names.count(twice[0])} times: leave one of them")
        resizing = [regularizer.name for regularizer in regularizers if regularizer.resizes]
        if len(resizing) > 1:
            raise ValueError(f"regularizers: {' and '.join(resizing)} both draw sizes: leave one of them")
        for regularizer in regularizers:
            if getattr(autoencoder, "one_size", False) and regularizer.smallest_side(SOME_SIZE) < min(SOME_SIZE):
                model_class = type(autoencoder.model).__name__
                raise ValueError(
                    f"regularizers: {regularizer.name} shrinks latents, of which {model_class} makes images of one "
                    "side all the same: leave it out, or set its scale to none"
                )
            regularizer.prepare(autoencoder)

    def __iter__(self) -> Iterator[LatentRegularizer]:
        for regularizer in super().__iter__():
            assert isinstance(regularizer, LatentRegularizer)
            yield regularizer

    @property
    def fresh_for_critic(self) -> bool:
        return any(regularizer.fresh_for_critic for regularizer in self)

    def draw(self, key: StepKey) -> Action:
        return Actions([regularizer.draw(key) for regularizer in self])

    def smallest_side(self, latent_size: Size) -> int:
        return min([min(latent_size), *(regularizer.smallest_side(latent_size) for regularizer in self)])

    def smallest_compared(self, latent_size: Size) -> int:
        return min([min(latent_size), *(regularizer.smallest_compared(latent_size) for regularizer in self)])

    def smallest_shown(self, latent_size: Size) -> int:
        return min([min(latent_size), *(regularizer.smallest_shown(latent_size) for regularizer in self)])

    def describe(self, with_critic: bool = False) -> str:
        """One line for the start of a run: what acts, and what it costs."""
        names, passes = ", ".join(regularizer.name for regularizer in self), self.extra_passes(with_critic)
        cost = f"{passes.encoder:g} encoder and {passes.decoder:g} decoder passes a step"
        return f"regularizers: {names}; {cost} beside those of the ordinary loss" if names else "regularizers: none"

    def extra_passes(self, with_critic: bool = False) -> Passes:
        """What a step costs, of a training with a critic that of its own pass included."""
        passes = [regularizer.extra_passes() for regularizer in self]
        if with_critic:
            passes += [regularizer.critic_passes() for regularizer in self]
        return Passes(*map(sum, zip(Passes(), *passes, strict=True)))


def reconstruct(
    autoencoder: Autoencoder,
    images: Tensor,
    action: Action,
    noise: Tensor | None = None,
    posterior: Posterior | None = None,
) -> Reconstruction:
    """Act an action out in one forward pass of the autoencoder.

    Args:
        images: [B, 3, H, W] in [-1, 1].
        noise: standard normal, at least [B, C, H / f, W / f], for the posterior sample (the top-left corner is used
            where the input shrinks); None decodes the mean.
        posterior: of `images` where it is known, for an action that does not change what is encoded.
    """
    assert posterior is None or not action.changes_input, "other images have another posterior"
    encoded = action.on_images(images)
    target = action.on_target(encoded)
    posterior = autoencoder.posterior(encoded) if posterior is None else posterior
    latents = autoencoder.sample(posterior, noise)
    acted = action.on_latents(latents)
    decoded, codes = autoencoder.transformed_decode(acted)
    assert decoded.shape == target.shape, f"decoded {tuple(decoded.shape)}, transformed image {tuple(target.shape)}"
    return Reconstruction(decoded, target, latents, acted, posterior, codes, encoded)
