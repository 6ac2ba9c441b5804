"""What the file of a published head holds, in our names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class PublishedWeights:
    """A head's layers and weights.

    Attributes:
        model: whose layout it is.
        pooling: part of the poolings family.
        hidden: widths of the layers before it.
        width: of an embedding.
        num_classes: of a bag.
        weights: by the names of our model.
    """

    model: str
    pooling: Mapping[str, Any]
    hidden: Sequence[int]
    width: int
    num_classes: int
    weights: State


def own_logits(
    weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A bag's linear classifier [C, D], [C] as ours: one logit of two classes.

    The softmax of two logits is the sigmoid of their difference.
    """
    if len(weight) != 2:
        return weight, bias
    return weight[1:] - weight[:1], bias[1:] - bias[:1]


def plain_names(state: State) -> dict[str, torch.Tensor]:
    """Names without those of a wrapped model, nor of its parallel modules."""
    names = {key: re.sub(r"^(module\.)?(model\.)?", "", key) for key in state}
    return {names[k].replace(".module.", "."): v.float() for k, v in state.items()}
