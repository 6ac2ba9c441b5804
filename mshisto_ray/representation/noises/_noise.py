"""The interface of a noise on embeddings."""

from __future__ import annotations

from typing import Annotated, Protocol

import torch
from pydantic import Field

Strength = Annotated[float, Field(ge=0)]


class Noise(Protocol):
    """Disturbs prepared embeddings while a head is trained, never after.

    ``build`` takes the ``Space`` of the training fold and whatever it needs is fitted
    on that alone. ``values`` [N, D] are standardised on the training fold and, where
    there is a reduction, reduced, with a mean square of 1. The result has the same
    shape; its randomness comes from ``generator`` alone and is fresh at every call, so
    a noise knows nothing of bags: bags one by one, many joined in one tensor and many
    models at once are disturbed alike.

    Strengths compare: ``sigma`` is the root of E|noise|^2 / E|h|^2 over training rows
    h, whatever the shape of the noise; ``build`` returns ``unchanged`` for 0, so that a
    trainer knows that copies of a tile stay equal.

    A part may declare ``check(views, reduced, **parameters)``, which raises InputError
    where its parameters do not suit the columns of each view or a reduction; it is
    called before any work; and ``check_fold(held_out, **parameters)``, likewise, with
    the slides that a fold holds out. A part whose parameters name files declares
    ``FILES``, their keys: what is read counts in a recipe by its content.
    """

    def __call__(
        self, values: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor: ...


def unchanged(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The noise of strength 0: returns the values as they are and draws nothing."""
    return values


def normal(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal numbers of the shape, type and device of the values."""
    return torch.empty_like(values).normal_(generator=generator)


def shaped(factor: torch.Tensor, energy: float, sigma: float) -> Noise:
    """Noise with the covariance ``factor.T @ factor``, scaled to a strength.

    Args:
        factor: [r, D].
        energy: E|h|^2 of the rows that it disturbs.
        sigma: root of E|noise|^2 / E|h|^2.
    """
    if sigma == 0:
        return unchanged
    own = float(factor.double().square().sum())
    scaled = factor * (sigma * (energy / max(own, 1e-300)) ** 0.5)

    def add(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shape = (len(values), len(scaled))
        drawn = torch.empty(shape, dtype=values.dtype, device=values.device)
        drawn.normal_(generator=generator)
        return values + drawn @ scaled.to(values.device, values.dtype)

    return add


def factor_of(rows: torch.Tensor) -> torch.Tensor:
    """A factor [r, D] of the second moments ``rows.T @ rows / n`` of rows [n, D].

    r is the number of directions in which the rows vary, at most n and D.
    """
    wide = rows.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide / len(rows))
    kept = values > values[-1] * 1e-9
    return (vectors[:, kept] * values[kept].sqrt()).T.float()
