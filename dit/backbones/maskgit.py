"""MaskGIT as first published in PyTorch (v1), and what it shares with its Halton successor (v2).

Both read tokens [B, h, w] in which `MASKED` stands for a hidden one, and return logits [B, num_codes + 1, h, w]: a
class per code and, as published, a last one for the mask itself, which no sampler draws. The head is tied to the
embedding of the codes. Both take a time as every backbone does, and do not use it: hidden tokens can be counted.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention, Mlp
from torch import Tensor, nn

from dit.backbones.interface import Auto, settled

MASKED = -1  # in place of a hidden token
END_NORM_EPS = 1e-12  # of the norms before and after the blocks of v1; those of its blocks have torch's 1e-5


class TokenTransformer(nn.Module):
    """What both versions share: checked arguments, hidden tokens in, logits as an image out.

    Args: as of `MaskGIT`.

    Raises:
        ValueError: if a number of codes or a probability is none.
    """

    def __init__(self, input_size: int | Auto, num_codes: int | Auto, num_classes: int | Auto, **config: Any):
        super().__init__()
        side, self.num_codes, self.num_classes = settled(
            input_size=input_size, num_codes=num_codes, num_classes=num_classes
        )
        if self.num_codes < 1:
            raise ValueError(f"num_codes must be at least 1, got {self.num_codes}: give the codebook's size")
        for name in ("dropout", "class_dropout_prob"):
            if not 0 <= config[name] < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {config[name]}")
        self.num_tokens = side**2
        self.config = {"input_size": side, "num_codes": self.num_codes, "num_classes": self.num_classes} | config

    def example(self) -> Tensor:
        """One sample of zeros: tokens [1, h, w]."""
        side = self.config["input_size"]
        return torch.zeros(1, side, side, dtype=torch.long)

    def _sequence(self, x: Tensor) -> Tensor:
        """Tokens [B, h, w] to rows of the embedding [B, T], hidden ones to the row after the codes."""
        return torch.where(x == MASKED, self.num_codes, x).flatten(1)

    def _to_image(self, logits: Tensor, like: Tensor) -> Tensor:
        """[B, T, K + 1] to [B, K + 1, h, w], a view: the classes stay contiguous in memory."""
        return logits.transpose(1, 2).unflatten(2, like.shape[1:])


class PlainBlock(nn.Module):
    """Attention and MLP behind layer norms (pre-norm)."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.attn = Attention(hidden_size, num_heads, qkv_bias=True, attn_drop=dropout, proj_drop=dropout)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio), drop=dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MaskGIT(TokenTransformer):
    """The transformer of MaskGIT-pytorch v1 (Chang et al., 2022; Besnier and Chen, 2023), 174 M parameters.

    Codes, mask and classes share one embedding; the class is one more token at the end. The head's bias has an entry
    per position and row of the embedding, as published.

    Args:
        input_size: side of the token grid; "auto" in a config is that of the cache, as for codes and classes.
        num_codes: of the codebook; tokens are 0 ... num_codes - 1.
        hidden_size: width of the tokens.
        depth: number of blocks.
        num_heads: of each attention.
        mlp_ratio: hidden width of the MLPs over `hidden_size`.
        dropout: of attention weights and of what attention and MLP add.
        class_dropout_prob: of dropping a label in training; 0 leaves no null label.
        num_classes: labels are 0 ... num_classes - 1, the null label is num_classes.

    Raises:
        ValueError: if the heads do not divide the width, or a number of codes or a probability is none.
    """

    def __init__(
        self,
        input_size: int | Auto = 16,
        num_codes: int | Auto = 1024,
        hidden_size: int = 768,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        class_dropout_prob: float = 0.1,
        num_classes: int | Auto = 1000,
    ):
        config = {"hidden_size": hidden_size, "depth": depth, "num_heads": num_heads, "mlp_ratio": mlp_ratio}
        config |= {"dropout": dropout, "class_dropout_prob": class_dropout_prob}
        super().__init__(input_size, num_codes, num_classes, **config)
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} must be divisible by num_heads {num_heads}")
        rows = self.num_codes + 1 + self.num_classes + (class_dropout_prob > 0)
        self.embedding = nn.Embedding(rows, hidden_size)
        self.positions = nn.Parameter(torch.zeros(1, self.num_tokens + 1, hidden_size))
        self.input_layer = nn.Sequential(
            nn.LayerNorm(hidden_size, eps=END_NORM_EPS),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.LayerNorm(hidden_size, eps=END_NORM_EPS),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
        )
        self.blocks = nn.ModuleList(PlainBlock(hidden_size, num_heads, mlp_ratio, dropout) for _ in range(depth))
        self.output_layer = nn.Sequential(
            nn.LayerNorm(hidden_size, eps=END_NORM_EPS),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.LayerNorm(hidden_size, eps=END_NORM_EPS),
        )
        self.bias = nn.Parameter(torch.zeros(self.num_tokens + 1, rows))
        self._initialize()

    def _initialize(self) -> None:
        """As published: torch's own for embedding (deviation 1) and layers, Xavier for queries, keys and values."""
        nn.init.trunc_normal_(self.positions, std=0.02)
        for block in self.modules():
            if isinstance(block, PlainBlock):
                nn.init.xavier_uniform_(block.attn.qkv.weight)
                nn.init.zeros_(block.attn.qkv.bias)
                nn.init.zeros_(block.attn.proj.bias)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, drop_labels: Tensor | None = None) -> Tensor:
        """Logits for every token.

        Args:
            x: [B, h, w] int64, codes or `MASKED`.
            t: [B], not used.
            y: [B] labels.
            drop_labels: [B] bool, which labels to drop; None drops at random in training mode.

        Returns:
            [B, num_codes + 1, h, w].
        """
        labels = self.num_codes + 1 + self._labels(y, drop_labels)
        tokens = self.embedding(torch.cat((self._sequence(x), labels[:, None]), dim=1)) + self.positions
        tokens = self.input_layer(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        tokens, classes = self.output_layer(tokens)[:, :-1], self.num_codes + 1
        logits = F.linear(tokens, self.embedding.weight[:classes]) + self.bias[: self.num_tokens, :classes]
        return self._to_image(logits, x)

    def _labels(self, y: Tensor, drop: Tensor | None) -> Tensor:
        probability = self.config["class_dropout_prob"]
        if drop is None and self.training and probability > 0:
            drop = torch.rand(len(y), device=y.device) < probability
        return y if drop is None or probability == 0 else torch.where(drop, self.num_classes, y)
