"""What is measured of latents is that of all devices."""

import torch
from torch.multiprocessing import start_processes

from eqvae.regularizers.measuring import channel_statistics


def measure_half(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    latents = torch.load(folder / "latents.pt")
    torch.save(list(channel_statistics(latents.chunk(2)[rank])), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_devices_measure_what_one_does_on_the_whole_batch(tmp_path):
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7).view(6, 1, 1, 1)
    torch.save(latents, tmp_path / "latents.pt")
    start_processes(measure_half, (tmp_path,), nprocs=2, start_method="fork")  # raises what one of them raises
    expected = channel_statistics(latents)
    for rank in range(2):
        for ours, whole in zip(torch.load(tmp_path / f"{rank}.pt"), expected):
            torch.testing.assert_close(ours, whole)
    own = channel_statistics(latents[:3])
    assert (own.std / expected.std - 1).abs().max() > 0.1
