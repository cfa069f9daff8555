"""Memory and time of encoding one large image whole and in tiles, and how far the latents differ.

On a processor memory is the growth of the process's peak: tiles come first, since a peak never falls.
"""

import argparse
import resource
import time

import torch
from measure import describe_device, report, synchronize

from eqvae.autoencoders import Autoencoder, load_autoencoder
from eqvae.commands import run_command

MIB = 2**20


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
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Encode in tiles, then whole; one JSON-ready dict."""
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
    _encode(autoencoder, image[..., : arguments.tile_size // 2, : arguments.tile_size // 2], device)  # libraries start
    autoencoder.encode_in_tiles(arguments.tile_size)
    before = _peak(device)
    tiled, in_tiles = _encode(autoencoder, image, device, before)
    autoencoder.model.disable_tiling()
    whole, at_once = _encode(autoencoder, image, device, before)
    return {
        "benchmark": "tiling",
        **{name: getattr(arguments, name) for name in ("channels", "image_size", "tile_size")},
        "tiles": in_tiles,
        "whole": at_once,
        "relative_difference": float((tiled - whole).norm() / whole.norm()),
        **describe_device(device),
    }


@torch.inference_mode()
def _encode(
    autoencoder: Autoencoder, image: torch.Tensor, device: torch.device, before: int = 0
) -> tuple[torch.Tensor, dict[str, float]]:
    """Latents, and what they took: `seconds` and `peak_mib` beyond `before`, the bytes that were taken then."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    latents = autoencoder.latent_moments(image)[0]
    synchronize(device)
    seconds = time.perf_counter() - start
    return latents, {"seconds": seconds, "peak_mib": (_peak(device) - before) / MIB}


def _peak(device: torch.device) -> int:
    """Bytes; of a process its highest so far."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated(device)


if __name__ == "__main__":
    main()
