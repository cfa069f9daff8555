"""A full fine-tuning step of stage 1, generator and critic, against the formulation of the public code.

The public formulation runs the autoencoder twice, once for each network, in float32, and finds the adaptive weight by
going back through the loss twice more. Both are timed in turns in the same process, on the same random images.
"""

import argparse
import threading
from collections.abc import Callable

import lightning
import torch
from measure import (
    CountFlops,
    add_precision,
    choose,
    describe_device,
    in_precision,
    matmul_peak_tflops,
    ratios,
    report,
    time_in_turns,
)

from eqvae.commands import run_command
from eqvae.losses import AdversarialLoss, ReconstructionLoss
from eqvae.module import AutoencoderModule

PRECISIONS = {"32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--channels", type=int, nargs="+", default=[64, 128, 128], help="widths; each but the last halves the side")
    add("--layers-per-block", type=int, default=1, help="residual blocks per width")
    add("--image-size", type=int, default=128, help="side of the images")
    add("--batch-size", type=int, default=4, help="images per step")
    add("--perceptual", default="none", help="feature distance of both formulations, as in a training config")
    add_precision(parser, "of our step")
    add("--channels-last", action="store_true", help="memory format of our networks")
    add("--compile", action="store_true", help="torch.compile our encoder, decoder and critic")
    add("--repeats", type=int, default=5, help="timed rounds")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Time all variants in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    arguments.precision = choose(arguments.precision, device)
    shape = (arguments.batch_size, 3, arguments.image_size, arguments.image_size)
    images = torch.rand(shape, device=device) * 2 - 1
    ours = our_step(arguments, images, arguments.precision, arguments.channels_last, arguments.compile)
    variants = {
        "public_formulation": in_precision(public_step(arguments, images), "32", device),
        "one_forward_float32": in_precision(our_step(arguments, images, "32", False, False), "32", device),
        "ours": in_precision(ours, arguments.precision, device),
    }
    timed = time_in_turns(variants, device, arguments.repeats)
    for values in timed.values():
        values["images_per_second"] = arguments.batch_size / values["seconds"]
    peak = matmul_peak_tflops(device, arguments.precision)
    tflops = ours.flops / timed["ours"]["seconds"] / 1e12
    names = ("channels", "image_size", "batch_size", "perceptual", "precision", "channels_last", "compile")
    return {
        "benchmark": "autoencoder_step",
        **{name: getattr(arguments, name) for name in names},
        **timed,
        "ratio_of_structure": timed["public_formulation"]["seconds"] / timed["one_forward_float32"]["seconds"],
        **ratios(timed, "public_formulation", "ours"),
        "tflops": tflops,
        "matmul_peak_tflops": peak,
        "share_of_matmul_peak": tflops / peak,
        **describe_device(device),
    }


def create_module(arguments: argparse.Namespace, compiled: bool = False) -> AutoencoderModule:
    """The module of a published recipe at the given widths, from the same random weights each time."""
    blocks = len(arguments.channels)
    autoencoder = {
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "block_out_channels": arguments.channels,
        "layers_per_block": arguments.layers_per_block,
        "latent_channels": 4,
    }
    reconstruction = ReconstructionLoss(perceptual=arguments.perceptual)
    return AutoencoderModule(autoencoder, None, reconstruction, AdversarialLoss(), compile=compiled)


class TrainerSteps(lightning.Callback):
    """A Lightning trainer whose batches are run one by one: each call of this object is one training step.

    `fit` runs in a thread that waits before every batch, so that other work can be timed in between. A step lasts until
    the next batch is there: what Lightning does after the last callback of a batch belongs to it.
    """

    def __init__(self, module: AutoencoderModule, images: torch.Tensor, precision: str):
        self.flops = 0  # of the first step
        self._go, self._done, self._error = threading.Semaphore(0), threading.Semaphore(0), None
        self._counter = CountFlops()
        trainer = lightning.Trainer(
            max_steps=10**6,
            accelerator=images.device.type,
            devices=1,
            precision=PRECISIONS[precision],
            callbacks=self,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batch = {"image": images, "key": torch.arange(len(images), device=images.device)}
        loader = torch.utils.data.DataLoader([batch] * 10**5, batch_size=None)
        threading.Thread(target=self._fit, args=(trainer, module, loader), daemon=True).start()

    def _fit(self, trainer: lightning.Trainer, module: AutoencoderModule, loader) -> None:
        try:
            trainer.fit(module, loader)
        except Exception as error:
            self._error = error
            self._done.release()

    def __call__(self) -> None:
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx > 0:
            self._done.release()
        self._go.acquire()
        if batch_idx == 0:
            self._counter.__enter__()  # here: a dispatch mode belongs to its thread

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 0:
            self._counter.__exit__(None, None, None)
            self.flops = self._counter.total


def our_step(
    arguments: argparse.Namespace, images: torch.Tensor, precision: str, channels_last: bool, compiled: bool
) -> TrainerSteps:
    """One training step of our module at a time."""
    module = create_module(arguments, compiled)
    if channels_last:
        module.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    return TrainerSteps(module, images, precision)


def public_step(arguments: argparse.Namespace, images: torch.Tensor) -> Callable[[], None]:
    """The two-pass formulation with the same networks and losses: autoencoder forward, step, forward again, critic."""
    module = create_module(arguments).to(images.device)
    autoencoder, critic, adversarial = module.autoencoder, module.critic, module.adversarial
    optimizers = [torch.optim.Adam(net.parameters(), 4.5e-6, (0.5, 0.9)) for net in (autoencoder, critic)]

    def forward():
        posterior = autoencoder.encode(images)
        return autoencoder.decode(posterior.sample()), posterior

    def gradient_norm(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, autoencoder.last_layer, retain_graph=True)[0].norm()

    def step() -> None:
        decoded, posterior = forward()
        nll = module.reconstruction(decoded, images)["nll"]
        generator_loss = adversarial.generator_loss(critic(decoded))
        ratio = gradient_norm(nll) / (gradient_norm(generator_loss) + 1e-4)
        weight = ratio.clamp(0, 1e4).detach() * adversarial.weight
        optimizers[0].zero_grad()
        (nll + module.kl_weight * posterior.kl().mean() + weight * generator_loss).backward()
        optimizers[0].step()
        decoded, _ = forward()
        optimizers[1].zero_grad()
        adversarial.critic_loss(critic(images), critic(decoded.detach())).backward()
        optimizers[1].step()

    return step


if __name__ == "__main__":
    main()
