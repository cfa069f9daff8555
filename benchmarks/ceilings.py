"""What the device can do at most: products of large matrices in each precision, and copies within its memory."""

import argparse

import torch
from measure import DTYPES, describe_device, matmul_peak_tflops, report, time_in_turns

from eqvae.commands import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--precision", nargs="+", choices=DTYPES, default=list(DTYPES), help="of the products")
    add("--gigabytes", type=float, default=4.0, help="of the tensor that is copied")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where")
    arguments = parser.parse_args()
    run_command(lambda: report(run(arguments)))


def run(arguments: argparse.Namespace) -> dict:
    """Products and copy one after the other; one JSON-ready dict."""
    device = torch.device(arguments.device)
    source = torch.empty(int(arguments.gigabytes * 1e9), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    copied = time_in_turns({"copy": lambda: target.copy_(source)}, device)
    return {
        "benchmark": "ceilings",
        "matmul_tflops": {name: matmul_peak_tflops(device, name) for name in arguments.precision},
        **copied,
        "copy_gigabytes_per_second": 2 * len(source) / 1e9 / copied["copy"]["seconds"],  # read and written
        **describe_device(device),
    }


if __name__ == "__main__":
    main()
