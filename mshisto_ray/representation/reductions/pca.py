"""Principal component analysis."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from sklearn.decomposition import PCA

from mshisto_ray.representation.reductions import (
    LinearReduction,
    Reduction,
    State,
    check_width,
    scaled,
)


class _Components(LinearReduction):
    def __init__(self, width: int):
        super().__init__(width)
        self.least_rows = width

    def fit(self, rows: torch.Tensor, codes: torch.Tensor | None) -> State:
        values = rows.double().numpy()
        check_width("pca", self.width, len(values), "training tiles")
        # Exact solvers: a randomised one gives other results elsewhere.
        solver = "covariance_eigh" if len(values) >= values.shape[1] else "full"
        found = PCA(self.width, svd_solver=solver).fit(values)
        return scaled(values.mean(0), np.asarray(found.components_).T, values)


def build(
    width: int, classes: int, *, dim: Annotated[int, Field(ge=1)] = 256
) -> Reduction:
    """The ``dim`` directions of largest variance, not whitened.

    Source: scikit-learn's PCA; 256 makes embeddings of any encoder equally wide.

    Raises:
        InputError: more directions than features or training tiles.
    """
    check_width("pca", dim, width, "features")
    return _Components(dim)
