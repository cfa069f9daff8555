"""The transformer: sizes, costs, labels, precision, gradients."""

import pytest
import torch
from timm.layers import apply_rot_embed_cat
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dit.backbones import BACKBONES, PUBLISHED, Backbone, DiT, SiT, create_backbone, num_multiply_adds, num_parameters
from dit.module import GeneratorModule
from dit.objectives import Flow

TINY = {"input_size": 8, "hidden_size": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
# DiT paper, table 1: Gflops, which are multiply-adds, and millions of trained parameters
PAPER_GFLOPS = {
    "DiT-S/8": 0.36,
    "DiT-S/4": 1.41,
    "DiT-S/2": 6.06,
    "DiT-B/8": 1.42,
    "DiT-B/4": 5.56,
    "DiT-B/2": 23.01,
    "DiT-L/8": 5.01,
    "DiT-L/4": 19.70,
    "DiT-L/2": 80.71,
    "DiT-XL/8": 7.39,
    "DiT-XL/4": 29.05,
    "DiT-XL/2": 118.64,
}
MILLIONS = {"DiT-XL/2": 674.835, "DiT-L/4": 457.988, "SiT-B/2": 130.316, "SiT-XL/8": 675.665}


def randomized(model):
    """As training leaves it: nothing is zero any more."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1, generator=generator)
    return model


def inputs(batch=3, channels=4, side=8):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, channels, side, side, generator=generator)
    return x, torch.rand(batch, generator=generator), torch.arange(batch) % 5


@pytest.mark.parametrize("name", PAPER_GFLOPS)
def test_multiply_adds_are_the_papers(name):
    with torch.device("meta"):
        model = create_backbone(name)
    assert num_multiply_adds(model) / 1e9 == pytest.approx(PAPER_GFLOPS[name], abs=0.015 + 4e-4 * PAPER_GFLOPS[name])


def test_multiply_adds_of_the_largest():
    with torch.device("meta"):
        model = create_backbone("DiT-XL/2")
    assert num_multiply_adds(model) / 1e9 == pytest.approx(118.6, abs=0.03)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_multiply_adds_are_those_that_run(patch_size):
    model = DiT(patch_size=patch_size, **TINY).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(*inputs(batch=1))
    assert counter.get_total_flops() == 2 * num_multiply_adds(model)


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_of_published_sizes(name):
    with torch.device("meta"):
        assert num_parameters(create_backbone(name)) / 1e6 == pytest.approx(MILLIONS[name], abs=6e-4)


def test_registry():
    assert len(PUBLISHED) == 39
    model = create_backbone("SiT-S/8", input_size=16, in_channels=3, num_classes=7, mlp_ratio=2.0, learn_sigma=False)
    assert isinstance(model, SiT)
    assert model.config["mlp_ratio"] == 2.0
    assert model(torch.randn(1, 3, 16, 16), torch.rand(1), torch.tensor([7])).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"'SiT-H/2' is unknown: use one of DiT-S/1, "):
        create_backbone("SiT-H/2")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch_size": 3}, "patch_size 3 does not divide input_size 8"),
        ({"num_heads": 3}, "num_heads 3"),
        ({"class_dropout_prob": 1.5}, "class_dropout_prob"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message) as error:
        DiT(**{**TINY, **wrong})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["DiT", "SiT"])
def test_config_rebuilds_the_model(family):
    model = randomized(BACKBONES[family](patch_size=1, mlp_ratio=2.0, class_dropout_prob=0.0, **TINY)).eval()
    copy = BACKBONES[family](**model.config).eval()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy(*inputs()), model(*inputs()))


def test_channels():
    """DiT has twice the channels with learned variance; SiT keeps the first half of the same weights."""
    dit, sit = randomized(DiT(**TINY)).eval(), SiT(**TINY).eval()
    sit.load_state_dict(dit.state_dict())
    assert dit(*inputs()).shape == (3, 8, 8, 8)
    assert torch.equal(sit(*inputs()), dit(*inputs())[:, :4])
    assert DiT(learn_sigma=False, **TINY)(*inputs()).shape == (3, 4, 8, 8)


def test_starts_at_zero():
    assert (DiT(**TINY)(*inputs()) == 0).all()


def test_dropped_labels_are_null_labels():
    model = randomized(DiT(**TINY))
    x, t, y = inputs()
    drop, null = torch.tensor([True, False, True]), torch.full_like(y, TINY["num_classes"])
    for mode in (model.train(), model.eval()):
        assert torch.equal(mode(x, t, y, drop_labels=drop), mode(x, t, torch.where(drop, null, y)))
    assert torch.equal(model.eval()(x, t, y), model(x, t, y, drop_labels=torch.zeros(3, dtype=torch.bool)))


def test_training_drops_labels_at_the_stated_rate():
    torch.manual_seed(0)
    embedder = DiT(class_dropout_prob=0.3, **TINY).y_embedder.train()
    labels = torch.zeros(4000, dtype=torch.long)
    dropped = (embedder(labels) == embedder.embedding_table.weight[5]).all(1)
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert not (embedder.eval()(labels) == embedder.embedding_table.weight[5]).all(1).any()


def test_gradient_reaches_every_parameter():
    """Gates and head start at zero, so that the innermost weights learn from the third step on."""
    torch.manual_seed(0)
    model = DiT(**TINY)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, t, y = inputs(6)
    drop = torch.arange(6) == 5
    for _ in range(3):
        optimizer.zero_grad()
        (model(x, t, y, drop_labels=drop) - 1).square().mean().backward()
        optimizer.step()
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0]
    assert untouched == []
    assert model.pos_embed.grad is None
    assert (model.y_embedder.embedding_table.weight.grad.abs().sum(1) > 0).all()  # the null row, too


def test_bfloat16_is_close():
    model = randomized(SiT(**TINY)).eval()
    with torch.no_grad():
        full = model(*inputs())
        with torch.autocast("cpu", torch.bfloat16):
            half = model(*inputs())
    assert half.dtype == torch.bfloat16
    assert float((half.float() - full).norm() / full.norm()) < 2e-2


def test_compiles_as_one_graph():
    model = randomized(SiT(**TINY)).train()
    x, t, y = inputs()
    drop = torch.tensor([True, False, False])
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, t, y, drop_labels=drop), model(x, t, y, drop_labels=drop))
    compiled(x, t, y)  # the random drop stays in the graph


IMPROVED = {"rms_norm": True, "swiglu": True, "rotary": True, "qk_norm": True}


@pytest.mark.reliability(27)
@pytest.mark.parametrize("family", ["DiT", "SiT"])
@pytest.mark.parametrize("options", [{}, IMPROVED], ids=["plain", "improved"])
def test_checkpointing_changes_neither_loss_nor_gradients(family, options, reached):
    model = randomized(BACKBONES[family](**TINY, **options)).train()
    keys, drop = list(model.state_dict()), torch.tensor([True, False, False])
    found = []
    for switch in (False, True):
        model.gradient_checkpointing = switch
        model.zero_grad()
        loss = model(*inputs(), drop_labels=drop).square().mean()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    assert list(model.state_dict()) == keys
    assert "gradient_checkpointing" not in model.config
    for plain, checkpointed in zip(*found, strict=True):
        assert torch.equal(plain, checkpointed)
    reached.largest("gradient checkpointing", 0)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    ("family", "options"), [("DiT", {}), ("SiT", {}), ("SiT", IMPROVED)], ids=["DiT", "SiT", "LightningDiT"]
)
def test_trains_as_one_graph(family, options, backend):
    torch._dynamo.reset()
    model = randomized(BACKBONES[family](**TINY | {"depth": 1}, **options)).train()
    drop, found = torch.tensor([True, False, False]), []
    for network in (model, torch.compile(model, backend=backend, fullgraph=True)):
        model.zero_grad()
        network(*inputs(), drop_labels=drop).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "depth", "width", "heads"),
    [("LightningDiT-XL/1", 28, 1152, 16), ("LightningDiT-1.0B/1", 24, 1536, 24), ("LightningDiT-1.6B/1", 28, 1792, 28)],
)
def test_lightning_sizes(name, depth, width, heads):
    with torch.device("meta"):
        config = create_backbone(name, input_size=16, in_channels=32).config
    assert (config["depth"], config["hidden_size"], config["num_heads"]) == (depth, width, heads)
    assert all(config[option] == (option != "qk_norm") for option in IMPROVED)


def test_parameters_of_lightning_dit():
    """The published 675.26 M count the fixed table of positions, too."""
    with torch.device("meta"):
        model = create_backbone("LightningDiT-XL/1", input_size=16, in_channels=32)
    assert (num_parameters(model) + model.pos_embed.numel()) / 1e6 == pytest.approx(675.26, abs=5e-3)


def test_multiply_adds_of_the_improved_block():
    model = DiT(**TINY, **IMPROVED).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(*inputs(batch=1))
    assert counter.get_total_flops() == 2 * num_multiply_adds(model)


def test_improved_block_is_off_by_default():
    plain, improved = set(DiT(**TINY).state_dict()), set(DiT(**TINY, **IMPROVED).state_dict())
    assert {"blocks.0.norm1.weight", "blocks.0.attn.q_norm.weight", "final_layer.norm_final.weight"} <= improved - plain
    assert set(DiT(**TINY, rotary=True).state_dict()) == plain


def test_rotation_makes_attention_relative():
    """Equal tokens everywhere: scores depend on the distance in the grid only, and not without rotation."""
    model = DiT(**TINY, rotary=True)
    rotation = model.rotary.get_embed()
    vector = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    query, key = (apply_rot_embed_cat(each.expand(16, 16), rotation) for each in vector)
    scores = (query @ key.T).view(4, 4, 4, 4)  # [row, column, row, column]
    torch.testing.assert_close(scores[:3, :3, :3, :3], scores[1:, 1:, 1:, 1:])
    assert scores[0, 0].std() > 0.01


def test_fit_starts_with_the_costs(caplog):
    module = GeneratorModule(DiT(**TINY), Flow())
    with caplog.at_level("INFO"):
        module.on_fit_start()
    assert f"{num_parameters(module.backbone) / 1e6:.3f} M parameters" in caplog.text
    assert f"{num_multiply_adds(module.backbone) / 1e9:.3f} G multiply-adds per image, 16 tokens" in caplog.text


@pytest.mark.parametrize("name", [*BACKBONES])
def test_every_family_keeps_the_protocol(name):
    tokens = {"num_codes": 8, "hidden_size": 8, "depth": 2, "num_heads": 2, "input_size": 4, "num_classes": 2}
    latents = {"hidden_size": 16, "depth": 1, "num_heads": 2, "input_size": 4, "num_classes": 2}
    model = BACKBONES[name](**(tokens if "MaskGIT" in name else latents))
    assert isinstance(model, Backbone)
    prediction = model(model.example(), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    assert prediction.shape[-2:] == (4, 4)
    assert num_multiply_adds(model) > 0
    assert not isinstance(torch.nn.Linear(2, 2), Backbone), "what is not counted"
