"""Memory and time of encoding one large image whole and in tiles, in turns, and how far the latents differ."""

import argparse
from collections.abc import Callable

import torch
from measure import describe_device, report, time_in_turns

from eqvae.autoencoders import Autoencoder, load_autoencoder
from eqvae.commands import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--channels", type=int, nargs="+", default=[64, 128, 256, 256], help="widths; each but the last halves the side"
    )
    add("--groups", type=int, default=32, help="of the normalization layers")
    add("--image-size", type=int, default=512, help="side of the image")
    add("--tile-size", type=int, default=256, help="side of the tiles")
    add("--repeats", type=int, default=5, help="timed rounds")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Encode both ways in turns; one JSON-ready dict."""
    device = torch.device(arguments.device)
    levels = len(arguments.channels)
    autoencoder = load_autoencoder(
        {
            "block_out_channels": arguments.channels,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "layers_per_block": 2,
            "norm_num_groups": arguments.groups,
        }
    ).freeze()
    autoencoder.to(device)
    side = arguments.image_size
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    encode = {
        "tiles": encoding(autoencoder, image, lambda: autoencoder.encode_in_tiles(arguments.tile_size)),
        "whole": encoding(autoencoder, image, autoencoder.model.disable_tiling),
    }
    timed = time_in_turns(encode, device, arguments.repeats, warmup=1)
    tiled, whole = (encode[name]() for name in ("tiles", "whole"))
    return {
        "benchmark": "tiling",
        **{name: getattr(arguments, name) for name in ("channels", "image_size", "tile_size")},
        **timed,
        "relative_difference": float((tiled - whole).norm() / whole.norm()),
        **describe_device(device),
    }


def encoding(autoencoder: Autoencoder, image: torch.Tensor, choose: Callable[[], None]) -> Callable[[], torch.Tensor]:
    """Latents of the image, after the way was chosen that they are made in."""

    @torch.inference_mode()
    def encode() -> torch.Tensor:
        choose()
        return autoencoder.latent_moments(image)[0]

    return encode


if __name__ == "__main__":
    main()
