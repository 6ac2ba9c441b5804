"""Several gated attentions over the instances; their embeddings side by side."""

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
    heads: Annotated[int, Field(ge=2)] = 4,
) -> nn.Module:
    """Gated attention with several heads.

    ``hidden``: rows of V and U, which the heads share; ``heads``: each with its own w.
    """
    return AttentionPooling(dim, num_classes, hidden, True, heads=heads)
