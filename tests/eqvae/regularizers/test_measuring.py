"""What is measured of latents, and what they lack, is that of all devices."""

from types import SimpleNamespace

import torch
from torch.multiprocessing import start_processes

from eqvae.autoencoders import CodebookLoss, Codes
from eqvae.autoencoders.latent_losses import codebook_terms
from eqvae.regularizers.correlation import CorrelationBelow
from eqvae.regularizers.measuring import channel_statistics


def terms_of_half(rank, folder, name):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    given = torch.load(folder / "given.pt").chunk(2)[rank]
    torch.save([term.value.detach() for term in TERMS[name](given)], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def correlation_terms(means):
    step = SimpleNamespace(result=SimpleNamespace(posterior=SimpleNamespace(mean=means)))
    return CorrelationBelow(0.5, 1.0).terms(step)


def usage_terms(indices):
    nothing = torch.zeros(1)
    return codebook_terms(CodebookLoss(), 8, None, Codes(indices, nothing, nothing))


TERMS = {"correlation": correlation_terms, "usage": usage_terms}


def require_terms_of_whole_batch(folder, name, given):
    """The mean over two devices of each term is what one device finds; returns that, and each half's own."""
    torch.save(given, folder / "given.pt")
    start_processes(terms_of_half, (folder, name), nprocs=2, start_method="fork")
    whole, halves = TERMS[name](given), [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    for term, *found in zip(whole, *halves, strict=True):
        torch.testing.assert_close(torch.stack(found).mean(), term.value)
    return [term.value for term in whole], [[term.value for term in TERMS[name](half)] for half in given.chunk(2)]


def test_a_device_whose_latents_correlate_less_is_not_pulled_while_all_together_do_enough(tmp_path):
    random = torch.Generator().manual_seed(0)
    smooth = torch.randn(2, 4, 1, 1, generator=random) + 0.05 * torch.randn(2, 4, 8, 8, generator=random)
    latents = torch.cat((smooth, torch.randn(2, 4, 8, 8, generator=random)))
    (whole, _), halves = require_terms_of_whole_batch(tmp_path, "correlation", latents)
    assert whole == 0
    assert max(half[0] for half in halves) > 0.1


def test_a_codebook_is_used_by_the_batches_of_all_devices(tmp_path):
    (_, perplexity, used), halves = require_terms_of_whole_batch(tmp_path, "usage", torch.arange(4).view(4, 1, 1))
    assert (float(perplexity), float(used)) == (4.0, 0.5)
    assert [float(half[1]) for half in halves] == [2.0, 2.0]


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
