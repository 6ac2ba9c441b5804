"""Isomap: distances along the training tiles, in few dimensions."""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from sklearn.manifold import Isomap

from mshisto_ray.representation.reductions import Reduction, State, check_width

_ROWS_AT_ONCE = 2048


class _Geodesic:
    linear = False

    def __init__(self, width: int, neighbours: int, landmarks: int):
        self.width = width
        self.least_rows = width + 1
        self._neighbours, self._landmarks = neighbours, landmarks

    def fit(self, rows: torch.Tensor, codes: torch.Tensor | None) -> State:
        held = rows[torch.linspace(0, len(rows) - 1, min(self._landmarks, len(rows)))
                    .round().long()]  # fmt: skip
        check_width("isomap", self.width, len(held) - 1, "training tiles")
        near = min(self._neighbours, len(held) - 1)
        model = Isomap(n_neighbors=near, n_components=self.width, eigen_solver="dense")
        with warnings.catch_warnings():  # parts that do not touch are joined
            warnings.simplefilter("ignore")
            found = model.fit_transform(held.double().numpy())
        kernel = model.kernel_pca_
        centre, size = found.mean(0), np.sqrt(((found - found.mean(0)) ** 2).mean())
        axes = kernel.eigenvectors_ / np.sqrt(np.maximum(kernel.eigenvalues_, 1e-12))
        # Squared distances enter the kernel; its centring is that of the fit.
        state = {
            "rows": held.double().numpy(),
            "distance": model.dist_matrix_,
            "axes": axes / size,
            "kernel_mean": kernel._centerer.K_fit_rows_,
            "kernel_total": np.array(kernel._centerer.K_fit_all_),
            "centre": centre / size,
        }
        return {n: torch.from_numpy(v.astype(np.float32)) for n, v in state.items()}

    def apply(self, state: State, values: torch.Tensor) -> torch.Tensor:
        parts = [self._place(state, part) for part in values.split(_ROWS_AT_ONCE)]
        return torch.cat(parts) if parts else values.new_zeros(0, self.width)

    def _place(self, state: State, values: torch.Tensor) -> torch.Tensor:
        held = state["rows"]
        near = min(self._neighbours, len(held) - 1)
        step, index = torch.cdist(values, held).topk(near, largest=False)
        # The shortest way to a landmark leads through one of the nearest landmarks.
        distance = torch.full((len(values), len(held)), torch.inf, device=values.device)
        for place in range(near):
            through = state["distance"][index[:, place]] + step[:, place, None]
            distance = torch.minimum(distance, through)
        kernel = -0.5 * distance.square()
        own = kernel.mean(1, keepdim=True)
        kernel = kernel - state["kernel_mean"] - own + state["kernel_total"]
        return kernel @ state["axes"] - state["centre"]


def build(
    width: int,
    classes: int,
    *,
    dim: Annotated[int, Field(ge=1)] = 32,
    neighbours: Annotated[int, Field(ge=1)] = 10,
    landmarks: Annotated[int, Field(ge=3, le=4000)] = 1000,
) -> Reduction:
    """Coordinates whose distances are those along a graph of neighbouring tiles.

    Args:
        width: of the embeddings.
        classes: not used.
        dim: coordinates.
        neighbours: edges of a tile in the graph.
        landmarks: training tiles that the graph is made of; their distances are kept in
            the head, 4 bytes for each pair.

    Source: Tenenbaum, de Silva, Langford 2000; scikit-learn's Isomap.
    """
    check_width("isomap", dim, landmarks - 1, "landmarks")
    return _Geodesic(dim, neighbours, landmarks)
