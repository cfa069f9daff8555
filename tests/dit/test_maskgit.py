"""Masked tokens: what is hidden, what it costs, and samplers that commit each token once."""

import itertools
import math

import pytest
import torch

from dit.backbones import BACKBONES, HaltonMaskGIT, MaskGIT, create_token_backbone, num_multiply_adds
from dit.backbones.maskgit import MASKED
from dit.objectives import Flow, MaskedTokens, Objective
from dit.samplers import TokenSettings, guide, image_noise, sample, step_noise
from dit.samplers.masked import KNOWN, confidence_totals, draw_codes, halton_order, halton_totals
from eqvae.randomness import keyed_normal

SIDE, CODES, CLASSES = 6, 11, 5
TINY = {"input_size": SIDE, "num_codes": CODES, "num_classes": CLASSES, "hidden_size": 24, "depth": 2, "num_heads": 2}
SAMPLERS = ("confidence", "halton")


def backbone(kind=MaskGIT, **overrides):
    torch.manual_seed(0)
    model = kind(**(TINY | {"dropout": 0.0} | overrides)).eval()
    with torch.no_grad():  # away from the start, where adaLN-zero ignores class and place
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def tokens(batch=3, seed=0):
    return torch.randint(0, CODES, (batch, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def noises(indices, seed=0):
    shape = (SIDE, SIDE)
    return image_noise(indices, shape, seed), step_noise(indices, shape, seed)


def fixed_model(seed=0):
    """Logits that depend on what is known already, so that a redrawn token would show."""
    weights = torch.randn(CODES + 2, CODES + 1, generator=torch.Generator().manual_seed(seed))

    def model(x, t):
        known = torch.nn.functional.one_hot(x + 1, CODES + 2).float()
        context = known.mean((1, 2), keepdim=True) * 20 + known
        return (context @ weights).movedim(-1, 1)

    return model


@pytest.mark.parametrize("kind", [MaskGIT, HaltonMaskGIT])
def test_backbones_see_tokens_places_classes_and_nothing_of_hidden_tokens(kind):
    model, x = backbone(kind), tokens()
    y, t = torch.tensor([0, 1, 4]), torch.zeros(3)
    logits = model(x, t, y)
    assert logits.shape == (3, CODES + 1, SIDE, SIDE)
    assert not torch.allclose(logits, model(x, t, (y + 1) % CLASSES), atol=1e-3)
    dropped = torch.tensor([True, False, False])
    torch.testing.assert_close(model(x, t, y, dropped), model(x, t, torch.tensor([CLASSES, 1, 4])))
    hidden = torch.where(torch.rand(x.shape) < 0.5, MASKED, x)
    assert not torch.allclose(model(hidden, t, y), logits, atol=1e-3)
    alone = torch.full_like(x, MASKED)
    assert model(alone, t, y).flatten(2).std(2).max() > 1e-3, "places look alike"
    torch.testing.assert_close(model(x[1:2], t[:1], y[1:2]), logits[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [MaskGIT, HaltonMaskGIT])
def test_every_parameter_learns(kind):
    model = backbone(kind, dropout=0.1).train()
    terms = MaskedTokens(0.1).loss_terms(
        model,
        tokens(),
        keyed_normal(torch.arange(3), (SIDE, SIDE), seed=0, stream="noise"),
        torch.full((3,), 0.5),
        y=torch.arange(3),
        drop_labels=torch.tensor([False, True, False]),
    )
    terms["loss"].mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_bad_backbone_arguments():
    for overrides, message in (
        ({"num_heads": 5}, "divisible by num_heads 5"),
        ({"num_codes": 0}, "num_codes must be at least 1"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"class_dropout_prob": -0.1}, "class_dropout_prob must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            MaskGIT(**(TINY | overrides))
    with pytest.raises(ValueError, match="num_heads must lie between 1 and hidden_size 24, got 25"):
        HaltonMaskGIT(**(TINY | {"num_heads": 25}))
    with pytest.raises(ValueError, match=r"token backbone 'MaskGIT-XL' is unknown: use one of MaskGIT-v1, "):
        create_token_backbone("MaskGIT-XL")


def test_share_of_hidden_tokens_follows_the_time():
    objective, count = MaskedTokens(), 4000
    assert isinstance(objective, Objective)
    noise = keyed_normal(torch.arange(count), (SIDE, SIDE), seed=0, stream="noise")
    data = tokens(1).expand(count, -1, -1)
    for time in (0.0, 0.2, 0.5, 0.9, 1.0):
        hidden = objective.hide(data, noise, torch.full((count,), time)) == MASKED
        expected = math.acos(time) / (math.pi / 2)
        assert abs(float(hidden.float().mean()) - expected) < 5 * math.sqrt(0.25 / hidden.numel()) + 1e-6
        pairs = (hidden[:, 0, 0] & hidden[:, 3, 2]).float().mean()  # independent of each other
        assert abs(float(pairs) - expected**2) < 5 * math.sqrt(0.25 / count)
    kept = objective.hide(data, noise, torch.full((count,), 0.5))
    assert torch.equal(kept[kept != MASKED], data[kept != MASKED])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_smoothed_cross_entropy_over_all_tokens(smoothing):
    data = tokens()
    logits = torch.randn(3, CODES + 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.nn.functional.one_hot(data, CODES + 1).movedim(-1, 1) * (1 - smoothing) + smoothing / (CODES + 1)
    expected = -(target * logits.log_softmax(1)).sum(1).mean((1, 2))
    actual = MaskedTokens(smoothing).training_terms(logits, data)["loss"]
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\), got 1"):
        MaskedTokens(1.0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", KNOWN)
@pytest.mark.parametrize("counts", ["proportional", "cumulative"])
def test_committed_tokens_never_change(sampler, schedule, counts):
    settings = TokenSettings(schedule, counts, halton_shift=True)
    indices, steps = torch.arange(16), []
    noise, each_step = noises(indices)

    def remember(step, x, time):
        steps.append(x.clone())

    result = sample(MaskedTokens(), fixed_model(), noise, sampler, 7, each_step, remember, settings=settings)
    assert torch.equal(steps[-1], result)
    assert len(steps) == 7
    assert result.min() >= 0
    assert result.max() < CODES
    for before, after in itertools.pairwise(steps):
        known = before != MASKED
        assert torch.equal(after[known], before[known])
    totals = (
        halton_totals(7, SIDE**2, schedule) if sampler == "halton" else confidence_totals(7, SIDE**2, schedule, counts)
    )
    for x, total in zip(steps, totals):
        assert ((x != MASKED).flatten(1).sum(1) == total).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", [MaskGIT, HaltonMaskGIT])
def test_batches_do_not_change_tokens(sampler, kind):
    model, settings = backbone(kind), TokenSettings(halton_shift=True)

    def images(indices):
        guided = guide(model, indices % CLASSES, 2.0, CLASSES, schedule="linear")
        noise, each_step = noises(indices, seed=3)
        return sample(MaskedTokens(), guided, noise, sampler, 5, each_step, settings=settings)

    together = images(torch.arange(8))
    alone = torch.cat([images(torch.tensor([index])) for index in range(8)])
    assert torch.equal(alone, together)
    assert not torch.equal(together[0], together[5])  # same label, another image


def test_codes_are_drawn_from_the_distribution():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    logits = torch.cat((probabilities.log(), torch.tensor([9.0])))  # the mask would win
    count = 20_000
    noise = keyed_normal(torch.arange(count), (1, 1), seed=0, stream="x")
    codes, log_probability = draw_codes(logits.view(1, 5, 1, 1).expand(count, -1, 1, 1), noise, TokenSettings())
    shares = torch.bincount(codes[:, 0], minlength=4) / count
    assert shares[1] == 0
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=5 * math.sqrt(0.25 / count))
    torch.testing.assert_close(log_probability.exp(), probabilities[codes])


def test_temperature_and_top_k_shape_the_distribution():
    logits = torch.tensor([1.0, 0.0, 0.5, -1.0, 7.0]).view(1, 5, 1, 1).expand(20_000, -1, 1, 1)
    noise = keyed_normal(torch.arange(20_000), (1, 1), seed=0, stream="x")

    def shares(step=0, **settings):
        codes, _ = draw_codes(logits, noise, TokenSettings(**settings), step)
        return torch.bincount(codes[:, 0], minlength=4) / len(codes)

    plain = logits[0, :4, 0, 0]
    for expected, actual in (
        (plain * 3, shares(inverse_temperature=3.0)),
        (plain * 1.5, shares(inverse_temperature=3.0, warmup_steps=1)),
        (plain * 3, shares(1, inverse_temperature=3.0, warmup_steps=1)),
        (torch.where(plain > 0.2, plain, -math.inf), shares(top_k=2)),
        (plain, shares(top_k=100)),
    ):
        torch.testing.assert_close(actual, expected.softmax(0), rtol=0, atol=0.02)


def test_confidence_without_noise_commits_the_surest_first():
    sure = torch.linspace(0, 5, SIDE**2).view(SIDE, SIDE)
    order = []

    def model(x, t):
        logits = torch.zeros(len(x), 3, SIDE, SIDE)
        logits[:, 0] = 20 * sure
        return logits

    def remember(step, x, time):
        order.append(float(sure[x[0] != MASKED].min()))

    noise, each_step = noises(torch.tensor([0]))
    settings = TokenSettings("linear", gumbel_temperature=0.0, top_k=1)
    sample(MaskedTokens(), model, noise, "confidence", 6, each_step, remember, settings=settings)
    assert order == sorted(order, reverse=True)
    noisy = []
    settings = TokenSettings("linear", gumbel_temperature=1e6, top_k=1)
    sample(
        MaskedTokens(), model, noise, "confidence", 6, each_step,
        lambda step, x, time: noisy.append(float(sure[x[0] != MASKED].min())), settings=settings,
    )  # fmt: skip
    assert noisy != order


def test_halton_order_is_a_permutation_and_shifts_per_image():
    for side in (1, 3, 8, 24, 32):
        order = halton_order(side)
        assert len({tuple(cell) for cell in order.tolist()}) == side**2
    order = [row * SIDE + column for row, column in halton_order(SIDE).tolist()]
    noise, each_step = noises(torch.arange(20))

    def first(shift):
        seen = []
        settings = TokenSettings(halton_shift=shift)
        sample(
            MaskedTokens(), fixed_model(), noise, "halton", SIDE**2, each_step,
            lambda step, x, time: seen.append((x != MASKED).flatten(1)), settings=settings,
        )  # fmt: skip
        starts = [order.index(int(row.nonzero()[0])) for row in seen[0]]
        second = [order.index(int((later & ~row).nonzero()[0])) for row, later in zip(seen[0], seen[1])]
        assert second == [(start + 1) % SIDE**2 for start in starts]
        return starts

    assert set(first(False)) == {0}
    assert len(set(first(True))) > 8


@pytest.mark.parametrize(("num_steps", "side", "step", "known"), [(16, 12, 7, 47), (64, 24, 31, 191)])
def test_halton_schedule_is_computed_in_float32(num_steps, side, step, known):
    """arccos(1/2) leaves a third of the tokens, which float32 rounds down below the whole number."""
    assert halton_totals(num_steps, side**2)[step] == known == side**2 // 3 - 1


@pytest.mark.parametrize("schedule", KNOWN)
def test_halton_schedules_grow_to_all_tokens(schedule):
    for num_steps in range(1, 65):
        totals = halton_totals(num_steps, 64, schedule)
        assert len(totals) == num_steps
        assert totals[-1] == 64
        assert all(
            after >= max(before, step + 1) for step, (before, after) in enumerate(itertools.pairwise([0, *totals]))
        )


def test_guidance_of_tokens_covers_all_logits_and_grows():
    model, x, y = backbone(), tokens(), torch.tensor([0, 1, 4])
    conditional, unconditional = model(x, None, y), model(x, None, torch.full_like(y, CLASSES))
    for t, w in ((0.0, 0.0), (0.5, 1.5), (1.0, 3.0)):
        times = torch.full((3,), t)
        ramped = guide(model, y, 4.0, CLASSES, schedule="linear")(x, times)
        torch.testing.assert_close(ramped, (1 + w) * conditional - w * unconditional, rtol=1e-4, atol=1e-4)
        constant = guide(model, y, 4.0, CLASSES)(x, times)
        torch.testing.assert_close(constant, 4 * conditional - 3 * unconditional, rtol=1e-4, atol=1e-4)


def test_bad_sampling_is_refused_in_one_line():
    noise, each_step = noises(torch.arange(2))
    model, labels = backbone(), torch.zeros(2).long()
    cases = (
        ("is unknown: use one of arccos", lambda: TokenSettings("sine")),
        ("top_k must be at least 1", lambda: TokenSettings(top_k=0)),
        ("inverse_temperature must be above 0", lambda: TokenSettings(inverse_temperature=0.0)),
        ("use proportional or cumulative", lambda: TokenSettings(counts="all")),
        (
            "37 is more than the 36 tokens",
            lambda: sample(MaskedTokens(), fixed_model(), noise, "halton", 37, each_step),
        ),
        ("does not fit a Flow model", lambda: sample(Flow(), fixed_model(), noise, "halton", 4, each_step)),
        ("adds noise at each step", lambda: sample(MaskedTokens(), fixed_model(), noise, "halton", 4)),
        (
            "use all for tokens",
            lambda: guide(model, labels, 2.0, CLASSES, "first3")(tokens(2), torch.zeros(2)),
        ),
        (
            "diffusion timesteps are none",
            lambda: guide(model, labels, 2.0, CLASSES, schedule="linear")(tokens(2), torch.ones(2).long()),
        ),
    )  # fmt: skip
    for message, call in cases:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [MaskGIT, HaltonMaskGIT])
def test_config_rebuilds_the_model(kind):
    model, inputs = backbone(kind, class_dropout_prob=0.0), (tokens(), torch.zeros(3), torch.tensor([0, 1, 4]))
    copy = BACKBONES[kind.__name__](**model.config).eval()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy(*inputs), model(*inputs))


def test_operations_are_those_of_the_papers_sizes():
    with torch.device("meta"):
        model = create_token_backbone("MaskGIT-v1", num_codes=1024)
    width, tokens = 768, 257
    blocks = 24 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    ends = tokens * 3 * width**2 + 256 * width * 1025  # layers at both ends, and the head, which leaves out the class
    assert num_multiply_adds(model) == blocks + ends


# README of Halton-MaskGIT: Gflops at 256 and at 384 pixels, rounded down; they leave out the products of attention
PUBLISHED_GFLOPS = {
    ("tiny", 16): 4,
    ("small", 16): 12,
    ("base", 16): 25,
    ("small", 24): 28,
    ("base", 24): 56,
    ("large", 24): 187,
}


@pytest.mark.parametrize(("size", "side"), PUBLISHED_GFLOPS)
def test_operations_are_those_of_the_second_version(size, side):
    with torch.device("meta"):
        model = create_token_backbone(f"MaskGIT-v2-{size}", input_size=side)
    config, tokens = model.config, side**2 + 1
    heads = config["hidden_size"] // config["num_heads"] * config["num_heads"]
    attention = 2 * config["depth"] * tokens**2 * heads
    assert (num_multiply_adds(model) - attention) // 10**9 == PUBLISHED_GFLOPS[size, side]


def test_second_version_starts_with_identical_blocks_and_an_open_head():
    torch.manual_seed(0)
    model = HaltonMaskGIT(**TINY)
    x, condition = torch.randn(2, 5, TINY["hidden_size"]), torch.randn(2, TINY["hidden_size"])
    assert all(torch.equal(block.eval()(x, condition), x) for block in model.blocks)
    logits = model.eval()(tokens(), torch.zeros(3), torch.tensor([0, 1, 4]))
    assert logits.std() > 1e-3
    assert not torch.equal(logits[:, :, 0, 0], logits[:, :, 0, 1])
