"""Images from a trained generator, with its averaged weights, decoded by the autoencoder that made its latents.

All noise of image i is keyed by i: it is the same for any batch size and number of processes, to the last bit on a
processor, but for one level in few pixels on a GPU. An interrupted start goes on when it is repeated.

Examples:
  --checkpoint runs/tiny-sit/checkpoints/last.ckpt --num-images 100 --output samples --npz
  --checkpoint DiT-XL-2-256x256.pt --family DiT --autoencoder stabilityai/sd-vae-ft-ema --guidance-scale 4
"""

from dit.sampling_options import add_sampling_options
from eqvae.commands import CommandParser
from twostage.cli.command import new_parser, start
from twostage.cli.options import add_device, add_file_family, add_precision, add_public_family


def main() -> None:
    parser = new_parser(__doc__)
    _add_weights(parser)
    _add_images(parser)
    add_sampling_options(parser)
    start("sample", parser)


def _add_weights(parser: CommandParser) -> None:
    group = parser.add_argument_group("what makes the images")
    add = group.add_argument
    add(
        "--checkpoint",
        required=True,
        help="generator: .ckpt of stage 2, a public one of DiT, SiT or LightningDiT (.pt), or a diffusers folder",
    )
    add_public_family(group)
    add("--autoencoder", help="folder, file or hub id that decodes (default: the one named in the checkpoint)")
    add_file_family(group, "--autoencoder-family")
    other = "accept an autoencoder that did not make the latents, e.g. with a fine-tuned decoder"
    add("--allow-other-autoencoder", action="store_true", help=other)


def _add_images(parser: CommandParser) -> None:
    group = parser.add_argument_group("which images, and where to")
    add = group.add_argument
    add("--output", default="samples", help="folder for the results (default: %(default)s)")
    add("--num-images", type=int, default=100, help="how many images (default: %(default)s)")
    add("--labels", default="balanced", help="balanced, random, class numbers separated by commas, a latent cache "
        "whose labels are taken, or a file of them (.txt, .npy, .npz) (default: %(default)s)")  # fmt: skip
    add("--batch-size", type=int, default=100, help="images at a time, in whole tens on a processor (default: "
        "%(default)s)")  # fmt: skip
    add_device(group)
    add_precision(group)
    add("--compile", action="store_true", help="compile the network before it samples (torch.compile)")
    add("--png", action="store_true", help="write every image as a PNG, too")
    add("--npz", action="store_true", help="write samples.npz (arr_0 uint8 [N, H, W, 3]) for the ADM evaluation suite")
