"""The diffusion transformer of DiT and SiT, in the layout of their public checkpoints."""

from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Mlp, PatchEmbed, RotaryEmbeddingCat, SwiGLU, apply_rot_embed_cat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dit.backbones.embeddings import FREQUENCIES, LabelEmbedder, TimestepEmbedder, position_table
from dit.backbones.interface import Auto, settled
from dit.backbones.layers import linear

NORM_EPS = 1e-6


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, T, D], shift and scale [B, D]."""
    return x * (1 + scale[:, None]) + shift[:, None]


def token_norm(hidden_size: int, rms_norm: bool, eps: float = NORM_EPS) -> nn.Module:
    """DiT's layer norm without weights, or the RMS norm with a learned weight of LightningDiT."""
    if rms_norm:
        return nn.RMSNorm(hidden_size, eps=eps)
    return nn.LayerNorm(hidden_size, elementwise_affine=False, eps=eps)


def mlp_width(hidden_size: int, mlp_ratio: float, swiglu: bool) -> int:
    """Hidden width of an MLP; two thirds of it where gated, whose three matrices then weigh as much as two."""
    return int(2 / 3 * int(hidden_size * mlp_ratio)) if swiglu else int(hidden_size * mlp_ratio)


def grid_rotation(head_width: int, side: int) -> RotaryEmbeddingCat:
    """Sines and cosines for the places of side x side tokens, first of rows and then of columns; no weights."""
    return RotaryEmbeddingCat(head_width, in_pixels=False, feat_shape=[side, side])


class Attention(nn.Module):
    """Multi-head self-attention with the keys of timm's (`qkv`, `proj`), through torch's fused kernel.

    Args:
        qk_norm: normalize queries and keys of each head (`q_norm`, `k_norm`).
    """

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool = False):
        super().__init__()
        self.num_heads = num_heads
        self.q_norm = nn.RMSNorm(hidden_size // num_heads, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(hidden_size // num_heads, eps=1e-6) if qk_norm else nn.Identity()
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """x [B, T, D]; rotation: sines and cosines [T, 2 D / heads] that turn queries and keys."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, T, D / heads]
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = apply_rot_embed_cat(query, rotation), apply_rot_embed_cat(key, rotation)
        query, key = query.to(value.dtype), key.to(value.dtype)  # norm and rotation may run in float32
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition (adaLN-zero)."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        mlp_ratio: float,
        rms_norm: bool,
        swiglu: bool,
        qk_norm: bool,
        mlp_norm_eps: float,
    ):
        super().__init__()
        self.norm1 = token_norm(hidden_size, rms_norm)
        self.norm2 = token_norm(hidden_size, rms_norm, mlp_norm_eps)
        self.attn = Attention(hidden_size, num_heads, qk_norm)
        hidden_features = mlp_width(hidden_size, mlp_ratio, swiglu)
        if swiglu:
            self.mlp = SwiGLU(hidden_size, hidden_features)
        else:
            gelu = partial(nn.GELU, approximate="tanh")
            self.mlp = Mlp(hidden_size, hidden_features, act_layer=gelu)  # pyright: ignore[reportArgumentType]  (called)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(self, x: Tensor, condition: Tensor, rotation: Tensor | None = None) -> Tensor:
        """x [B, T, D], condition [B, D], rotation as of `Attention`."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(condition).chunk(6, dim=1)
        x = x + gate_a[:, None] * self.attn(modulate(self.norm1(x), shift_a, scale_a), rotation)
        return x + gate_m[:, None] * self.mlp(modulate(self.norm2(x), shift_m, scale_m))


class FinalLayer(nn.Module):
    """Modulated norm and the linear map from tokens to patches."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int, rms_norm: bool):
        super().__init__()
        self.norm_final = token_norm(hidden_size, rms_norm)
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class DiT(nn.Module):
    """Diffusion transformer (Peebles and Xie, 2023, adaLN-zero).

    Args:
        input_size: side of the latents; "auto" in a config is that of the cache, as for the other sizes of latents and
            labels (`dit.following`).
        patch_size: side of a token's patch; "auto" in a config is `dit.backbones.patches.comparable_patch`.
        in_channels: of the latents.
        hidden_size: width of the tokens.
        depth: number of blocks.
        num_heads: of each attention.
        mlp_ratio: hidden width of the MLPs over `hidden_size`.
        class_dropout_prob: of dropping a label in training; 0 leaves no null label.
        num_classes: labels are 0 ... num_classes - 1, the null label is num_classes.
        learn_sigma: predict 2 C channels, the second half for the variance.
        rms_norm: RMS norms with learned weights instead of layer norms without (this and the next three: the
            improved block of LightningDiT, Yao et al., 2025; without them the keys are the public DiT's).
        swiglu: a gated MLP of hidden width int(2 / 3 * mlp_ratio * hidden_size).
        rotary: rotate queries and keys by their place in the grid, besides the fixed table.
        qk_norm: RMS norms of queries and keys.
        frequency_divisor: n of the time's frequencies 10000^(-i / n), i = 0 ... 127. 128 in DiT; with 127, that of
            diffusers, an exported pipeline is exact at any number of steps (`dit.exchange`).
        mlp_norm_eps: added to the variance in the norm before each MLP; 1e-6 in DiT, 1e-5 in most folders of diffusers.
        gradient_checkpointing: compute blocks anew in the backward pass instead of keeping their activations; an
            attribute that can be switched at any time, and no part of `config`.

    Raises:
        ValueError: if the patch does not divide the input, or the heads the width, or a probability is none, or heads
            have no multiple of 4 channels to rotate.
    """

    def __init__(
        self,
        input_size: int | Auto = 32,
        patch_size: int | Auto = 2,
        in_channels: int | Auto = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int | Auto = 1000,
        learn_sigma: bool = True,
        rms_norm: bool = False,
        swiglu: bool = False,
        rotary: bool = False,
        qk_norm: bool = False,
        frequency_divisor: int = FREQUENCIES,
        mlp_norm_eps: float = NORM_EPS,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        input_size, patch_size, in_channels, num_classes = settled(
            input_size=input_size, patch_size=patch_size, in_channels=in_channels, num_classes=num_classes
        )
        if input_size % patch_size:
            raise ValueError(f"patch_size {patch_size} does not divide input_size {input_size}: choose another patch")
        if hidden_size % num_heads or hidden_size % 4:
            raise ValueError(f"hidden_size {hidden_size} must be divisible by num_heads {num_heads} and by 4")
        if not 0 <= class_dropout_prob < 1:
            raise ValueError(f"class_dropout_prob must lie in [0, 1), got {class_dropout_prob}")
        if rotary and hidden_size // num_heads % 4:
            raise ValueError(f"rotary needs heads of a multiple of 4 channels, got {hidden_size // num_heads}")
        self.config = {
            "input_size": input_size,
            "patch_size": patch_size,
            "in_channels": in_channels,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "class_dropout_prob": class_dropout_prob,
            "num_classes": num_classes,
            "learn_sigma": learn_sigma,
            "rms_norm": rms_norm,
            "swiglu": swiglu,
            "rotary": rotary,
            "qk_norm": qk_norm,
            "frequency_divisor": frequency_divisor,
            "mlp_norm_eps": mlp_norm_eps,
        }
        self.gradient_checkpointing = gradient_checkpointing
        # Tokens by depth, from 1, where they are asked for; not hooks, which compiled code does not see.
        self.kept_tokens: dict[int, Tensor] = {}
        self.kept_depths: tuple[int, ...] = ()
        self.in_channels, self.patch_size, self.side = in_channels, patch_size, input_size // patch_size
        self.num_tokens = self.side**2
        self.out_channels = in_channels * (2 if learn_sigma else 1)
        self.x_embedder = PatchEmbed(input_size, patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size, frequency_divisor)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size, class_dropout_prob)
        self.pos_embed = nn.Parameter(position_table(hidden_size, self.side), requires_grad=False)
        self.rotary = grid_rotation(hidden_size // num_heads, self.side) if rotary else None
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_ratio, rms_norm, swiglu, qk_norm, mlp_norm_eps) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels, rms_norm)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        patch = self.x_embedder.proj
        nn.init.xavier_uniform_(patch.weight.view(patch.weight.shape[0], -1))  # as the linear map that it is
        assert patch.bias is not None, "timm's patches have one unless told otherwise"
        nn.init.zeros_(patch.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        nn.init.normal_(linear(self.t_embedder.mlp, 0).weight, std=0.02)
        nn.init.normal_(linear(self.t_embedder.mlp, 2).weight, std=0.02)
        # Every block starts as the identity and the prediction as zero.
        for module in self.modules():
            if isinstance(module, Block | FinalLayer):
                nn.init.zeros_(linear(module.adaLN_modulation, 1).weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def example(self) -> Tensor:
        """One sample of zeros: latents [1, C, h, w]."""
        side = self.config["input_size"]
        return torch.zeros(1, self.in_channels, side, side)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, drop_labels: Tensor | None = None) -> Tensor:
        """The prediction for noisy latents.

        Args:
            x: [B, C, h, w].
            t: [B], integer timesteps (diffusion) or times in [0, 1] (flow).
            y: [B] labels.
            drop_labels: [B] bool, which labels to drop; None drops at random in training mode.

        Returns:
            [B, C or 2 C, h, w].
        """
        tokens = self.x_embedder(x) + self.pos_embed  # [B, T, D]
        condition = self.t_embedder(t) + self.y_embedder(y, drop_labels)  # [B, D]
        rotation = None if self.rotary is None else self.rotary.get_embed()
        for depth, block in enumerate(self.blocks, start=1):
            if self.gradient_checkpointing and self.training:
                tokens = checkpoint(block, tokens, condition, rotation, use_reentrant=False)
            else:
                tokens = block(tokens, condition, rotation)
            if depth in self.kept_depths:
                self.kept_tokens[depth] = tokens
        return self._to_image(self.final_layer(tokens, condition))

    def _to_image(self, patches: Tensor) -> Tensor:
        """[B, T, p * p * C] to [B, C, h, w]."""
        batch, p, side = len(patches), self.patch_size, self.side
        grid = patches.view(batch, side, side, p, p, self.out_channels)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, self.out_channels, side * p, side * p)


class SiT(DiT):
    """The transformer of SiT (Ma et al., 2024): DiT's, with the variance half of the prediction left unused."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor, drop_labels: Tensor | None = None) -> Tensor:
        """As `DiT.forward`, [B, C, h, w]."""
        return super().forward(x, t, y, drop_labels)[:, : self.in_channels]
