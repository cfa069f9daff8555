"""Files in LightningDiT's layout give what its formulae give; what they do not tell comes from the autoencoder.

No published file is at hand: the network below is written from the publication, under the names of its files.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dit.backbones import DiT, SiT, create_backbone
from dit.backbones.embeddings import position_table
from dit.checkpoints import load_generator
from dit.objectives import Flow
from dit.public.transformer import read_public_backbone
from dit.sampling import open_generator, sample
from eqvae.autoencoders import Normalization
from tests.dit.tiny import tiny_generator
from tests.eqvae.tiny import tiny_autoencoder

WIDTH, HEADS, SIDE, CHANNELS, CLASSES, HIDDEN = 32, 2, 4, 4, 3, 84
EPS = 1e-6


def rotation_tables(side: int, head_width: int) -> dict[str, Tensor]:
    """Rows turn the first half of a head, columns the second; each frequency twice, for a pair of neighbours."""
    frequencies = 10_000 ** (-torch.arange(0, head_width // 2, 2) / (head_width // 2))
    angles = (torch.arange(side)[:, None] * frequencies).repeat_interleave(2, dim=1)  # [side, head_width / 2]
    rows = angles[:, None].expand(side, side, -1)
    table = torch.cat((rows, rows.transpose(0, 1)), dim=2).reshape(side * side, head_width)
    return {"feat_rope.freqs_cos": table.cos(), "feat_rope.freqs_sin": table.sin()}


def public_file(qk_norm: bool = False, depth: int = 2, out_channels: int = CHANNELS) -> dict[str, Tensor]:
    """Random weights by public names, and the two tables that lie among them."""
    generator = torch.Generator().manual_seed(0)
    sizes = {
        "x_embedder.proj": (WIDTH, CHANNELS, 1, 1),
        "t_embedder.mlp.0": (WIDTH, 256),
        "t_embedder.mlp.2": (WIDTH, WIDTH),
        "final_layer.linear": (out_channels, WIDTH),
        "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH),
    }
    norms = {"final_layer.norm_final.weight": (WIDTH,), "y_embedder.embedding_table.weight": (CLASSES + 1, WIDTH)}
    for block in (f"blocks.{number}." for number in range(depth)):
        sizes |= {block + "attn.qkv": (3 * WIDTH, WIDTH), block + "attn.proj": (WIDTH, WIDTH)}
        sizes |= {block + "mlp.w12": (2 * HIDDEN, WIDTH), block + "mlp.w3": (WIDTH, HIDDEN)}
        sizes |= {block + "adaLN_modulation.1": (6 * WIDTH, WIDTH)}
        norms |= {block + f"norm{number}.weight": (WIDTH,) for number in (1, 2)}
        norms |= {block + f"attn.{part}_norm.weight": (WIDTH // HEADS,) for part in "qk" if qk_norm}
    shapes = norms | {f"{name}.weight": shape for name, shape in sizes.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in sizes.items()}
    weights = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return weights | {"pos_embed": position_table(WIDTH, SIDE)} | rotation_tables(SIDE, WIDTH // HEADS)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * weight


def turned(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Neighbours (a, b) become (a cos - b sin, b cos + a sin)."""
    swapped = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * weights["feat_rope.freqs_cos"] + swapped * weights["feat_rope.freqs_sin"]


def published_forward(weights: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The network by its formulae, [B, out_channels, h, w]."""

    def layer(name: str, values: Tensor) -> Tensor:
        return F.linear(values, weights[name + ".weight"], weights[name + ".bias"])

    tokens = F.conv2d(x, weights["x_embedder.proj.weight"], weights["x_embedder.proj.bias"])
    tokens = tokens.flatten(2).transpose(1, 2) + weights["pos_embed"]
    angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(128) / 128)
    waves = torch.cat((angles.cos(), angles.sin()), dim=1)
    condition = layer("t_embedder.mlp.2", F.silu(layer("t_embedder.mlp.0", waves)))
    condition = F.silu(condition + weights["y_embedder.embedding_table.weight"][y])
    for block in sorted({name.split(".mlp")[0] + "." for name in weights if ".mlp.w3" in name}):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (
            part[:, None] for part in layer(block + "adaLN_modulation.1", condition).chunk(6, dim=1)
        )
        inner = rms(tokens, weights[block + "norm1.weight"]) * (1 + scale_a) + shift_a
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in layer(block + "attn.qkv", inner).chunk(3, 2)
        )
        if block + "attn.q_norm.weight" in weights:
            query, key = (
                rms(query, weights[block + "attn.q_norm.weight"]),
                rms(key, weights[block + "attn.k_norm.weight"]),
            )
        query, key = turned(query, weights), turned(key, weights)
        attended = (query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1) @ value
        tokens = tokens + gate_a * layer(block + "attn.proj", attended.transpose(1, 2).flatten(2))
        inner = rms(tokens, weights[block + "norm2.weight"]) * (1 + scale_m) + shift_m
        gates, values = layer(block + "mlp.w12", inner).chunk(2, dim=-1)
        tokens = tokens + gate_m * layer(block + "mlp.w3", F.silu(gates) * values)
    shift, scale = (part[:, None] for part in layer("final_layer.adaLN_modulation.1", condition).chunk(2, dim=1))
    tokens = rms(tokens, weights["final_layer.norm_final.weight"]) * (1 + scale) + shift
    return layer("final_layer.linear", tokens).transpose(1, 2).unflatten(2, (SIDE, SIDE))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize(("wrapper", "prefix"), [(None, ""), ("ema", ""), ("model", "module.")])
def test_outputs_are_those_of_the_formulae(tmp_path, qk_norm, wrapper, prefix):
    weights = public_file(qk_norm)
    named = {prefix + name: value for name, value in weights.items()}
    torch.save({wrapper: named} if wrapper else named, tmp_path / "public.pt")
    generator = load_generator(tmp_path / "public.pt", num_heads=HEADS)
    assert isinstance(generator.backbone, SiT)
    assert generator.backbone.config["qk_norm"] is qk_norm
    assert generator.objective.config == Flow(timesteps="logit_normal", cosine_weight=1.0).config
    x, t, y = torch.randn(3, CHANNELS, SIDE, SIDE), torch.tensor([0.0, 0.4, 1.0]), torch.tensor([0, 2, CLASSES])
    expected = published_forward(weights, x, t, y)
    torch.testing.assert_close(generator.backbone(x, t, y), expected, rtol=1e-5, atol=1e-5)


def test_a_variance_that_was_predicted_is_left_out():
    weights = public_file(out_channels=2 * CHANNELS)
    x, t, y = torch.randn(2, CHANNELS, SIDE, SIDE), torch.rand(2), torch.tensor([0, 1])
    found = read_public_backbone(weights, "x.pt", "SiT", HEADS)(x, t, y)
    torch.testing.assert_close(found, published_forward(weights, x, t, y)[:, :CHANNELS], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["LightningDiT-XL/1", "LightningDiT-1.6B/1"])
def test_published_sizes_come_from_shapes(name, monkeypatch):
    """Without their weights: shapes, and the two tables, are all that is read."""
    with torch.device("meta"):
        model = create_backbone(name, input_size=16, in_channels=32)
    weights = {}
    for key, value in model.state_dict().items():
        if ".fc1_g." in key:
            weights[key.replace("fc1_g", "w12")] = torch.empty(2 * len(value), *value.shape[1:], device="meta")
        elif ".fc1_x." not in key:
            weights[key.replace("fc2", "w3")] = value
    head_width = model.config["hidden_size"] // model.config["num_heads"]
    monkeypatch.setattr(
        "dit.checkpoints.load_checkpoint", lambda path: {"ema": weights | rotation_tables(16, head_width)}
    )
    generator = load_generator("lightningdit.pt")
    assert generator.backbone.config == model.config
    assert generator.spec.shape == (32, 16, 16)


def test_what_is_another_network_is_refused():
    weights = public_file()
    other_angles = {**weights, "feat_rope.freqs_cos": weights["feat_rope.freqs_cos"].flip(0)}
    layer_norm = {key: value for key, value in weights.items() if "norm_final" not in key}
    cases = {
        "rotates by other angles than LightningDiT: feat_rope.freqs_cos": (other_angles, None),
        "than SiT's: final_layer.norm_final.weight": (layer_norm, None),
        "unexpected keys blocks.0.mlp.extra": (weights | {"blocks.0.mlp.extra": torch.zeros(1)}, "SiT"),
        "nor has it DiT's layout": (weights, "DiT"),
    }
    for message, (contents, family) in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            read_public_backbone(contents, "x.pt", family, HEADS)
        assert str(error.value).startswith("checkpoint x.pt")
    with pytest.raises(ValueError, match="width 32, which is none of the published: give num_heads"):
        read_public_backbone(weights, "x.pt")


def test_latents_are_normalized_as_the_autoencoder_says(tmp_path):
    torch.save(public_file(), tmp_path / "public.pt")
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = Normalization((0.1, 0.2, -0.3, 0.0), (1.0, 2.0, 0.5, 4.0))
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    opened = open_generator(tmp_path / "public.pt", tmp_path / "autoencoder", num_heads=HEADS)
    assert opened.generator.spec.normalization == autoencoder.normalization
    assert opened.generator.spec.downsampling_factor == autoencoder.downsampling_factor
    latents = torch.randn(1, CHANNELS, SIDE, SIDE)
    expected = autoencoder.decode(autoencoder.normalization.denormalize(latents))
    torch.testing.assert_close(opened.generator.spec.decode(opened.autoencoder, latents), expected)


def test_latents_of_an_unknown_normalization_are_refused(tmp_path):
    torch.save(public_file(), tmp_path / "public.pt")
    generator = load_generator(tmp_path / "public.pt", num_heads=HEADS)
    with pytest.raises(ValueError, match="does not tell how its latents are normalized"):
        generator.spec.decode(tiny_autoencoder(), torch.zeros(1, CHANNELS, SIDE, SIDE))
    unknown = tiny_autoencoder()
    unknown.normalization = None
    with pytest.raises(ValueError, match="have no known normalization"):
        generator.spec.completed(unknown)
    other = tiny_generator(DiT, in_channels=4).spec  # what tells all is not changed
    assert other.completed(unknown) is other
    wider = load_wider(tmp_path)
    with pytest.raises(ValueError, match="latents of 8 channels, the autoencoder decodes 4"):
        wider.spec.completed(tiny_autoencoder())


def load_wider(folder):
    """A generator of latents of eight channels."""
    weights = public_file()
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].repeat(1, 2, 1, 1)
    weights["final_layer.linear.weight"] = weights["final_layer.linear.weight"].repeat(2, 1)
    weights["final_layer.linear.bias"] = weights["final_layer.linear.bias"].repeat(2)
    torch.save(weights, folder / "wider.pt")
    return load_generator(folder / "wider.pt", num_heads=HEADS)


def test_images_of_a_file_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr("dit.public.transformer.PUBLISHED_HEADS", {WIDTH: HEADS})
    torch.save(public_file(), tmp_path / "public.pt")
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = Normalization((0.0,) * 4, (1.0,) * 4)
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    how = {"sampler": "euler", "num_inference_steps": 2, "timestep_shift": 0.3, "guidance_scale": 2.0}
    images = sample(tmp_path / "public.pt", 2, autoencoder=tmp_path / "autoencoder", device="cpu", **how)
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.uint8
