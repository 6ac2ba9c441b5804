"""A trunk whose tokens one learned query reads, as in CONCH (Lu et al. 2024)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

AttentionKind = Literal["multihead", "projected"]


class _Multihead(nn.Module):
    """Attention of torch, with biases: CONCH."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, width))
        self.attn = nn.MultiheadAttention(
            width, heads, kdim=context, vdim=context, batch_first=True
        )
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, tokens, tokens, need_weights=False)[0][:, 0]


class _Projected(nn.Module):
    """Attention of three matrices without biases: CONCH v1.5."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self._heads = heads
        self.query = nn.Parameter(torch.zeros(1, width))
        self.ln_k, self.ln_q = nn.LayerNorm(context), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(context, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        key, value = self.to_kv(self.ln_k(tokens)).chunk(2, -1)
        parts = (
            part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for part in (query, key, value)
        )
        read = functional.scaled_dot_product_attention(*parts)
        return self.to_out(read.transpose(1, 2).flatten(2))[:, 0]


class AttentionPooledNetwork(nn.Module):
    """Normalised output of the query that reads a trunk's tokens, [B, width].

    It has the two methods of a timm network that embedding calls, and the names that
    the published weights have.
    """

    def __init__(self, trunk: nn.Module, kind: AttentionKind, width: int, heads: int):
        super().__init__()
        context = int(trunk.num_features)  # pyright: ignore[reportArgumentType]
        made = {"multihead": _Multihead, "projected": _Projected}[kind]
        self.trunk = trunk
        self.attn_pool_contrast = made(width, context, heads)
        self.ln_contrast = nn.LayerNorm(width)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [B, T, D] of normalised images [B, 3, H, W]."""
        return self.trunk.forward_features(x)  # pyright: ignore[reportCallIssue]

    def forward_head(self, maps: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        """What the query reads of the tokens."""
        return self.ln_contrast(self.attn_pool_contrast(maps))
