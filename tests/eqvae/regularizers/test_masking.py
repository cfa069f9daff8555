"""Hidden positions and channels: how many, whose gradient, and what stands in their place."""

import pytest
import torch

from eqvae.autoencoders import load_autoencoder
from eqvae.regularizers import ChannelMasking, LatentMasking
from tests.eqvae.regularizers.registry import CONFIGS, METHODS, key, prepared


def latents(channels: int = 4, height: int = 16, width: int = 16) -> torch.Tensor:
    normal = torch.randn(4, channels, height, width, generator=torch.Generator().manual_seed(0))
    return (normal + 3).requires_grad_()


def masking(ratio: float, block: int = 1):
    regularizer = LatentMasking((ratio,), (1.0,), block)
    regularizer.prepare(load_autoencoder(CONFIGS["kl"]))
    return regularizer


@pytest.mark.parametrize(("ratio", "size", "hidden"), [(0.25, (16, 16), 64), (0.5, (5, 7), 17), (0.75, (16, 8), 96)])
def test_so_many_positions_are_hidden_in_all_images_alike(ratio, size, hidden):
    regularizer, given = masking(ratio), latents(4, *size)
    acted = regularizer.draw(key()).on_latents(given)
    changed = (acted != given).any(1)
    assert changed.sum((1, 2)).tolist() == [hidden] * 4
    assert (changed == changed[0]).all()
    torch.testing.assert_close(acted.mT.movedim(1, -1)[changed.mT], regularizer.token.flatten().expand(4 * hidden, 4))


def test_hidden_positions_have_no_gradient_and_their_token_has():
    regularizer, given = masking(0.5), latents()
    action = regularizer.draw(key())
    action.on_latents(given).sum().backward()
    hidden = action.hidden(16, 16)
    assert (given.grad[..., hidden] == 0).all()
    assert (given.grad[..., ~hidden] == 1).all()
    assert (regularizer.token.grad == 4 * 128).all()


def test_blocks_are_hidden_whole():
    hidden = masking(0.5, block=2).draw(key()).hidden(16, 16)
    assert hidden.sum() == 128
    assert set(hidden.view(8, 2, 8, 2).sum((1, 3)).flatten().tolist()) == {0, 4}
    assert masking(0.5, block=2).draw(key()).hidden(5, 3).shape == (5, 3)


def test_ratio_0_leaves_latents():
    assert torch.equal(masking(0.0).draw(key()).on_latents(latents()), latents())


def test_shares_are_drawn_as_often_as_published():
    regularizer, _ = prepared(METHODS["masking"])
    drawn = [regularizer.draw(key(step)).ratio for step in range(2000)]
    for ratio, probability in zip((0, 0.25, 0.5, 0.75), (0.7, 0.1, 0.1, 0.1)):
        assert drawn.count(ratio) / 2000 == pytest.approx(probability, abs=0.03)
    places = [masking(0.5).draw(key(step)).hidden(16, 16) for step in (0, 0, 1)]
    assert torch.equal(places[0], places[1])
    assert not torch.equal(places[0], places[2])


@pytest.mark.parametrize(
    ("ratios", "probabilities", "expected"),
    [((1.5,), (1.0,), "no shares"), ((0.5,), (0.5,), "in sum 1"), ((0.0, 0.5), (1.0,), "one for each ratio")],
)
def test_shares_that_make_no_distribution_are_refused(ratios, probabilities, expected):
    with pytest.raises(ValueError, match=expected):
        LatentMasking(ratios, probabilities)


def channel_masking(kept, channels: int = 4):
    regularizer = ChannelMasking(kept)
    regularizer.prepare(load_autoencoder(CONFIGS["kl"] | {"latent_channels": channels}))
    return regularizer


@pytest.mark.parametrize(
    ("channels", "kept"), [(4, (1, 2, 3, 4)), (16, tuple(range(1, 17))), (32, (16, 20, 24, 28, 32))]
)
def test_numbers_of_channels_are_those_of_the_paper(channels, kept):
    assert channel_masking(None, channels).kept == kept


def test_masked_channels_have_their_mean_and_no_gradient():
    given = latents()
    acted = channel_masking([3]).draw(key()).on_latents(given)
    assert torch.equal(acted[:, :3], given[:, :3])
    torch.testing.assert_close(acted[:, 3], given[:, 3].mean().expand(4, 16, 16))
    acted.square().sum().backward()
    assert (given.grad[:, 3] == 0).all()
    assert (given.grad[:, :3] != 0).all()


def test_all_channels_are_the_latent_itself():
    assert torch.equal(channel_masking([4]).draw(key()).on_latents(latents()), latents())


def test_numbers_are_drawn_alike():
    regularizer, _ = prepared(METHODS["channel_masking"])
    drawn = [regularizer.draw(key(step)).kept for step in range(800)]
    for kept in (1, 2, 3, 4):
        assert drawn.count(kept) / 800 == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("kept", [[], [0], [2, 5]])
def test_channels_that_are_not_there_are_refused(kept):
    with pytest.raises(ValueError, match=r"give numbers in 1 \.\.\. 4"):
        channel_masking(kept)


def test_no_position_is_lost_to_the_rounding_of_a_share():
    assert masking(0.57).draw(key()).hidden(10, 10).sum() == 57  # 0.57 * 10 * 10 is 56.99999999999999


def test_squares_of_no_side_are_refused():
    with pytest.raises(ValueError, match=r"^masking: block must be at least 1"):
        LatentMasking(block=0)
