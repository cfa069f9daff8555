"""The published loss of an autoencoder with its critic, and what regularizers add to it."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from eqvae.autoencoders import Autoencoder, Term
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.losses.balance import gradient_norm, norm_ratio
from eqvae.precision import at_least_float32
from eqvae.ranges import require_number
from eqvae.regularizers import Reconstruction, Regularizers

LARGEST_PULL = 1e8  # VA-VAE's clamp, arXiv 2501.01423
DROWNED_CODEBOOK = (
    "model.init_args.reconstruction.reduction sum drowns the loss of the codebook, which is a mean: few codes stay in "
    "use; set it to mean, as VQ-GAN"
)
USUAL_KL_WEIGHT = 1e-6  # latent-diffusion's; a larger one is an arm of its own


class AutoencoderObjective:
    """What one step minimizes. Gradients meet at the decoded image, so each network runs backward once.

    It is called with autocast off, and holds networks without owning them: they are the training module's.

    Args:
        reconstruction: pixel and perceptual loss.
        latent_loss: of posterior and codes: the terms of divergence or codebook.
        regularizers: those whose terms `autoencoder_loss` is given; each of their parameters gets a gradient, and so
            does each of the autoencoder's that trains.
        adversarial, critic: the critic's losses and its network; null trains without.
    """

    def __init__(
        self,
        reconstruction: ReconstructionLoss,
        latent_loss: Callable[..., Iterable[Term]],
        regularizers: Regularizers,
        adversarial: AdversarialLoss | None = None,
        critic: nn.Module | None = None,
    ):
        self.reconstruction, self.latent_loss, self.regularizers = reconstruction, latent_loss, regularizers
        self.adversarial, self.critic = adversarial, critic
        self._unreached: list[nn.Parameter] | None = None  # of the autoencoder, found in the first step

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Pixel and perceptual distance of images [B, 3, H, W] in [-1, 1] to a target, a scalar in float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self.reconstruction(at_least_float32(images), at_least_float32(target))["nll"]

    def critic_active(self, step: int) -> bool:
        """Whether the critic takes part in this step."""
        return self.adversarial is not None and self.adversarial.active(step)

    def autoencoder_loss(
        self, autoencoder: Autoencoder, result: Reconstruction, asked: Iterable[Term], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A scalar with the autoencoder's gradients, and the terms to log; `asked` are the regularizers'."""
        decoded, target = at_least_float32(result.images), at_least_float32(result.target)
        leaf = decoded.detach().requires_grad_()
        terms = self.reconstruction(leaf, target)
        (nll_grad,) = torch.autograd.grad(terms["nll"], leaf)
        image_grad = nll_grad
        if self.critic_active(step):
            gan_grad, loss = self._pull_of_critic(leaf)
            assert self.adversarial is not None
            weight = self.adversarial.adaptive_weight(decoded, nll_grad, gan_grad, autoencoder.last_layer)
            weight = weight * self.adversarial.factor(step)
            image_grad = nll_grad + weight * gan_grad
            terms |= {"generator_loss": loss, "adaptive_weight": weight}
        surrogate = (decoded * image_grad).sum()  # not the loss, but a scalar with its gradients
        for term in (*self.latent_loss(result.posterior, result.codes), *asked):
            terms[term.name], weight = term.value, term.weight
            if term.adaptive:
                assert weight is not None, "an adaptive weight multiplies one"
                # How much stronger the reconstruction pulls at the encoder than the term does.
                layer = autoencoder.encoder_last_layer
                norms = gradient_norm(decoded, layer, nll_grad), gradient_norm(term.value, layer)
                terms[f"{term.name}_weight"] = weight = weight * norm_ratio(*norms, LARGEST_PULL)
            if weight is not None:
                surrogate = surrogate + weight * term.value
        if self._unreached is None:
            self._unreached = unreached(surrogate, autoencoder.parameters())
        return surrogate + _zero_of([*self.regularizers.parameters(), *self._unreached]), terms

    def _pull_of_critic(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the generator's loss at decoded images, and the loss; the critic's own gradients stay as is."""
        assert self.adversarial is not None
        assert self.critic is not None
        self.critic.requires_grad_(False)
        loss = self.adversarial.generator_loss(self.critic(decoded))
        (gradient,) = torch.autograd.grad(loss, decoded)
        self.critic.requires_grad_(True)
        return gradient, loss.detach()

    def critic_loss(self, shown: tuple[Tensor, Tensor] | None) -> Tensor:
        """The critic's loss on images and reconstructions; before its start a zero that reaches all parameters."""
        assert self.adversarial is not None
        assert self.critic is not None
        if shown is None:
            return _zero_of(self.critic.parameters())
        real, fake = shown
        return self.adversarial.critic_loss(self.critic(at_least_float32(real)), self.critic(at_least_float32(fake)))


def doubts(
    reconstruction: ReconstructionLoss, adversarial: AdversarialLoss | None, num_codes: int, max_steps: int
) -> Iterator[str]:
    """What of losses does not do in so many steps what it seems to be asked for; -1 steps are any number."""
    if num_codes and reconstruction.reduction == "sum":
        yield DROWNED_CODEBOOK
    if adversarial is not None and 0 < max_steps <= adversarial.start_step:
        start = adversarial.start_step
        yield f"adversarial.start_step {start}: in {max_steps} steps the critic takes no part: set it lower"


def require_kl_weight(kl_weight: float, autoencoder: Autoencoder, trainable: str) -> None:
    """Refuse a weight that is none, and a stronger one than usual where it does nothing."""
    require_number("model.init_args.kl_weight", kl_weight, least=0)
    if kl_weight <= USUAL_KL_WEIGHT:
        return
    if autoencoder.num_codes or not autoencoder.draws:
        model_class = type(autoencoder.model).__name__
        raise ValueError(f"kl_weight {kl_weight:g}: latents of {model_class} have no spread, so leave it out")
    if trainable == "decoder":
        raise ValueError(f"kl_weight {kl_weight:g} pulls at the encoder alone: set trainable to all, or leave it out")


def _zero_of(parameters: Iterable[nn.Parameter]) -> Tensor:
    """A zero that reaches all of them, since DDP waits for each in every step."""
    return sum((parameter.sum() for parameter in parameters), start=torch.zeros(())) * 0.0


def unreached(loss: Tensor, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those that train and get no gradient of a loss, as the temporal layers of a video's network for one frame."""
    waiting, seen, reached = [loss.grad_fn], set(), set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            reached.add(id(getattr(node, "variable", None)))
            waiting += [following for following, _ in node.next_functions]
    return [parameter for parameter in parameters if parameter.requires_grad and id(parameter) not in reached]
