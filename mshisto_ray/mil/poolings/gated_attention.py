"""Gated-attention-weighted mean embedding, then a classifier."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings._attention import AttentionPooling


def build(
    dim: int,
    num_classes: int,
    *,
    hidden: Annotated[int, Field(ge=1)] = 128,
    per_class: bool = False,
) -> nn.Module:
    """Gated attention.

    ``hidden``: rows of V and U (the paper's 128); ``per_class``: one per class.
    """
    return AttentionPooling(dim, num_classes, hidden, True, per_class)
