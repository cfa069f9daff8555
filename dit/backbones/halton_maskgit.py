"""The transformer of Halton-MaskGIT (v2): adaLN-zero, RMS norms, normalized queries and keys, SwiGLU, registers."""

import torch
import torch.nn.functional as F
from timm.layers import SwiGLU
from torch import Tensor, nn

from dit.backbones.embeddings import LabelEmbedder
from dit.backbones.interface import Auto
from dit.backbones.layers import linear
from dit.backbones.maskgit import TokenTransformer
from dit.backbones.transformer import modulate

NORM_EPS = 1e-5
EMBEDDING_STD = 0.02
SWIGLU_MULTIPLE = 256  # hidden widths are rounded up to multiples of it


class BiasedRMSNorm(nn.RMSNorm):
    """RMS norm with a learned weight and a learned bias: the published norm before the head."""

    def __init__(self, hidden_size: int, eps: float):
        super().__init__(hidden_size, eps=eps)
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.bias


class NormalizedAttention(nn.Module):
    """Self-attention whose queries and keys are normalized over all heads together, without weights or biases.

    Args:
        num_heads: each of `hidden_size // num_heads` channels: the published small has 6 heads at width 512.
        dropout: of attention weights and of the result.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        width = hidden_size // num_heads * num_heads
        self.query, self.key, self.value = (nn.Linear(hidden_size, width, bias=False) for _ in range(3))
        self.query_norm = nn.RMSNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.key_norm = nn.RMSNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.proj = nn.Linear(width, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D]."""
        value = self.value(x)
        query, key = self.query_norm(self.query(x)), self.key_norm(self.key(x))
        parts = (query.to(value.dtype), key.to(value.dtype), value)  # norms may run in float32
        heads = [part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts]  # [B, heads, T, D / heads]
        attended = F.scaled_dot_product_attention(*heads, dropout_p=self.dropout if self.training else 0.0)
        return F.dropout(self.proj(attended.transpose(1, 2).flatten(2)), self.dropout, self.training)


class ModulatedBlock(nn.Module):
    """Attention and a gated MLP behind RMS norms, each shifted, scaled and gated by the class (adaLN-zero)."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(hidden_size, eps=NORM_EPS), nn.RMSNorm(hidden_size, eps=NORM_EPS)
        self.attn = NormalizedAttention(hidden_size, num_heads, dropout)
        self.mlp = SwiGLU(hidden_size, swiglu_width(hidden_size, mlp_ratio), bias=False, drop=dropout)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, T, D], condition [B, D]."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(condition).chunk(6, dim=1)
        x = x + gate_a[:, None] * self.attn(modulate(self.norm1(x), shift_a, scale_a))
        return x + gate_m[:, None] * self.mlp(modulate(self.norm2(x), shift_m, scale_m))


def swiglu_width(hidden_size: int, mlp_ratio: float) -> int:
    """Hidden width of the gated MLP: two thirds of an ungated one's, rounded up to a multiple of 256."""
    two_thirds = 2 * int(hidden_size * mlp_ratio) // 3
    return -(-two_thirds // SWIGLU_MULTIPLE) * SWIGLU_MULTIPLE


class HaltonMaskGIT(TokenTransformer):
    """The transformer of Halton-MaskGIT, v2 (Besnier et al., 2025, arXiv 2503.17076).

    Args: as of `MaskGIT`, and
        mlp_ratio: hidden width of an ungated MLP over `hidden_size`; see `swiglu_width`.
        num_registers: learned tokens that carry nothing but what attention leaves there.

    Raises:
        ValueError: if there are more heads than channels, or a number of codes or a probability is none.
    """

    def __init__(
        self,
        input_size: int | Auto = 16,
        num_codes: int | Auto = 16384,
        hidden_size: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_registers: int = 1,
        dropout: float = 0.1,
        class_dropout_prob: float = 0.1,
        num_classes: int | Auto = 1000,
    ):
        config = {"hidden_size": hidden_size, "depth": depth, "num_heads": num_heads, "mlp_ratio": mlp_ratio}
        config |= {"num_registers": num_registers, "dropout": dropout, "class_dropout_prob": class_dropout_prob}
        super().__init__(input_size, num_codes, num_classes, **config)
        if not 1 <= num_heads <= hidden_size:
            raise ValueError(f"num_heads must lie between 1 and hidden_size {hidden_size}, got {num_heads}")
        self.embedding = nn.Embedding(self.num_codes + 1, hidden_size)
        self.y_embedder = LabelEmbedder(self.num_classes, hidden_size, class_dropout_prob)
        self.positions = nn.Parameter(torch.zeros(self.num_tokens, hidden_size))
        self.registers = nn.Parameter(torch.zeros(num_registers, hidden_size))
        self.blocks = nn.ModuleList(ModulatedBlock(hidden_size, num_heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm_final = BiasedRMSNorm(hidden_size, eps=NORM_EPS)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))
        self.bias = nn.Parameter(torch.zeros(self.num_codes + 1))
        self._initialize()

    def _initialize(self) -> None:
        """As published: Xavier for all layers, the last modulation too; only the blocks start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  (torch declares it is never)
                    nn.init.zeros_(module.bias)
        for table in (self.embedding.weight, self.y_embedder.embedding_table.weight, self.positions, self.registers):
            nn.init.normal_(table, std=EMBEDDING_STD)
        for block in self.modules():
            if isinstance(block, ModulatedBlock):
                nn.init.zeros_(linear(block.adaLN_modulation, 1).weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, drop_labels: Tensor | None = None) -> Tensor:
        """As `MaskGIT.forward`."""
        tokens = self.embedding(self._sequence(x)) + self.positions
        tokens = torch.cat((tokens, self.registers.expand(len(x), -1, -1)), dim=1)
        condition = self.y_embedder(y, drop_labels)
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        tokens = modulate(self.norm_final(tokens[:, : self.num_tokens]), shift, scale)
        return self._to_image(F.linear(tokens, self.embedding.weight, self.bias), x)
