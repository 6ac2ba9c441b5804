"""The interface of a reduction of embeddings to fewer numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch

from mshisto_ray.config import InputError

State = Mapping[str, torch.Tensor]


class Reduction(Protocol):
    """Maps standardised embeddings [N, D] to [N, width].

    ``build`` takes D and the number of classes. What ``fit`` finds in training rows is
    plain tensors, which a head keeps; ``apply`` needs nothing else. Fitted rows have
    mean 0 and mean square 1 over all columns together, so that the strength of a noise
    and the learning rate of a head mean the same at every width.

    Attributes:
        width: columns of the result.
        linear: whether ``apply`` is a linear map after a shift, so that differences of
            embeddings can be mapped too.
        least_rows: the fewest training rows that ``fit`` takes.
    """

    width: int
    linear: bool
    least_rows: int

    def fit(self, rows: torch.Tensor, codes: torch.Tensor | None) -> State:
        """Fit on training rows [n, D], with the class of each [n] where it has one."""
        ...

    def apply(self, state: State, values: torch.Tensor) -> torch.Tensor:
        """Values [N, D] to [N, width], float32."""
        ...


class LinearReduction:
    """A shift and a matrix; what fits them is another file's."""

    linear = True
    least_rows = 1

    def __init__(self, width: int):
        self.width = width

    def apply(self, state: State, values: torch.Tensor) -> torch.Tensor:
        """(h - mean) @ matrix."""
        return (values - state["mean"]) @ state["matrix"]


def scaled(mean: np.ndarray, matrix: np.ndarray, rows: np.ndarray) -> State:
    """The state of a linear reduction, whose result has a mean square of 1 on rows."""
    result = (rows - mean) @ matrix
    size = np.sqrt((result**2).mean())
    kept = matrix / (size if size > 0 else 1.0)
    found = {"mean": mean, "matrix": kept}
    return {name: torch.from_numpy(v.astype(np.float32)) for name, v in found.items()}


def check_width(name: str, dim: int, most: int, why: str) -> None:
    """Refuse a width that the input cannot give."""
    if dim > most:
        raise InputError(
            f"reduction.dim: {name} to {dim} needs at least as many {why}, have "
            f"{most}: give reduction.dim={max(most, 1)} or less"
        )
