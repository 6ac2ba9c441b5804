"""Linear discriminant analysis."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mshisto_ray.config import InputError
from mshisto_ray.representation.reductions import (
    LinearReduction,
    Reduction,
    State,
    check_width,
    scaled,
)

OF_CLASSES = True  # no other target has what it separates


class _Discriminants(LinearReduction):
    def __init__(self, width: int, shrinkage: float):
        super().__init__(width)
        self._shrinkage = shrinkage

    def fit(self, rows: torch.Tensor, codes: torch.Tensor | None) -> State:
        if codes is None:
            raise InputError(
                "reduction: lda needs a class of every training tile or bag; take pca"
            )
        values = rows.double().numpy()
        model = LinearDiscriminantAnalysis(
            solver="eigen", shrinkage=self._shrinkage, n_components=self.width
        )
        model.fit(values, codes.numpy())
        matrix = np.asarray(model.scalings_)[:, : self.width]
        return scaled(values.mean(0), matrix, values)


def build(
    width: int,
    classes: int,
    *,
    dim: Annotated[int, Field(ge=1)] | None = None,
    shrinkage: Annotated[float, Field(gt=0, le=1)] = 0.1,
) -> Reduction:
    """The directions in which class means differ most, against the spread within.

    Args:
        width: of the embeddings.
        classes: their number C; a bag's class is that of its tiles.
        dim: how many directions; None: all, C - 1 of them.
        shrinkage: of the covariance within classes towards a multiple of the identity;
            without it the directions follow noise where tiles are few.

    Source: scikit-learn's LinearDiscriminantAnalysis.

    Raises:
        InputError: ``dim`` above C - 1.
    """
    most = min(classes - 1, width)
    check_width("lda", dim or 1, most, "classes less one")
    return _Discriminants(dim or most, shrinkage)
