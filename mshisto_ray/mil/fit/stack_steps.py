"""Steps of all models of a stack, planned until the first of them ends its epoch.

What a step needs beside instances and weights is worked out for many steps at once: for
small bags such bookkeeping would take as long as the products of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch


class ModelStep(NamedTuple):
    """A step of one model.

    ``rows``: int64 [N] of the stack's matrix; ``sizes``: of each bag, int64 [B];
    ``targets``: of each bag, as the loss takes them; ``weights``: of each bag; None:
    all count alike.
    """

    rows: np.ndarray
    sizes: np.ndarray
    targets: torch.Tensor
    weights: torch.Tensor | None


class StackRows(NamedTuple):
    """Which of N rows belong to which of S models, model by model.

    ``counts``: of each model; ``ends``: of each model, int32 [S]; ``owners``: the model
    of each row, int64 [N].
    """

    counts: list[int]
    ends: torch.Tensor
    owners: torch.Tensor


class StackStep(NamedTuple):
    """A step of all models, model by model.

    ``rows``: int64 [N] of the stack's matrix; ``offsets``: of all bags, int64 [B + 1];
    ``instances``, ``bags``: of each model; ``targets``, ``weights``: as of
    ``ModelStep``; ``shares``: of each bag in the mean loss of its model, float32 [B].
    """

    rows: torch.Tensor
    offsets: torch.Tensor
    instances: StackRows
    bags: StackRows
    targets: torch.Tensor
    weights: torch.Tensor | None
    shares: torch.Tensor


def plan_steps(models: Sequence[Sequence[ModelStep]]) -> Iterator[StackStep]:
    """The steps of all models from those of each, of which all have as many.

    A step of a model may have no bag.
    """
    parts = [part for step in zip(*models, strict=True) for part in step]
    shape = -1, len(models)
    instances = np.array([len(part.rows) for part in parts]).reshape(shape)
    bags = np.array([len(part.sizes) for part in parts]).reshape(shape)
    of_step = instances.sum(1).tolist(), bags.sum(1).tolist()
    rows = torch.from_numpy(np.concatenate([part.rows for part in parts]))
    targets = torch.cat([part.targets for part in parts])
    weights = [part.weights for part in parts if part.weights is not None]
    shares = np.repeat(1 / np.maximum(bags.ravel(), 1), bags.ravel())
    num = len(instances)
    yield from map(
        StackStep,
        rows.split(of_step[0]),
        _offsets(np.concatenate([part.sizes for part in parts]), of_step[1]),
        _stack_rows(instances),
        _stack_rows(bags),
        targets.split(of_step[1]),
        torch.cat(weights).split(of_step[1]) if weights else [None] * num,
        torch.from_numpy(shares.astype(np.float32)).split(of_step[1]),
    )


def _offsets(sizes: np.ndarray, num_bags: Sequence[int]) -> Iterator[torch.Tensor]:
    """Offsets of the bags of each step, from 0."""
    ends = np.concatenate([np.zeros(1, np.int64), sizes.cumsum()])
    last = 0
    for num in num_bags:
        first, last = last, last + num
        yield torch.from_numpy(ends[first : last + 1] - ends[first])


def _stack_rows(counts: np.ndarray) -> Iterator[StackRows]:
    """Of each step, from counts [steps, S]."""
    ends = torch.from_numpy(counts.cumsum(1).astype(np.int32))
    owners = np.tile(np.arange(counts.shape[1]), len(counts))
    owners = torch.from_numpy(np.repeat(owners, counts.ravel()))
    of_step = owners.split(counts.sum(1).tolist())
    return map(StackRows, counts.tolist(), ends, of_step)
