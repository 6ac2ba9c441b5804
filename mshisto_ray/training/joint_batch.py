"""One loss over the joint batch of all workers, or over a batch larger than memory.

A contrastive loss is no mean over images: the loss of an image depends on the other
images in the batch. So the workers' own losses, averaged, are not the loss of the joint
batch, and gradients of parts of a batch do not add up to those of the whole. Both
functions here give the gradient of the joint loss exactly, for networks that process
every image on its own (no batch statistics in training).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import distributed

from mshisto_ray.config import InputError


@dataclass(frozen=True)
class Share:
    """The rank of this process among the workers; each gets a part of every batch."""

    rank: int = 0
    workers: int = 1

    def part(self, num: int, together: Literal[1, 2] = 2) -> slice:
        """The range of this worker's images in a batch of ``num``.

        Args:
            num: images of all workers.
            together: images that must be on the same worker: 2 (a pair) or 1.

        Raises:
            InputError: the images cannot be divided evenly.
        """
        if num % (together * self.workers):
            whole = "" if together == 1 else " in whole pairs"
            raise InputError(
                f"batch_size: {num} images cannot be divided evenly among "
                f"{self.workers} worker(s){whole}: take a multiple of "
                f"{together * self.workers}"
            )
        each = num // self.workers
        return slice(self.rank * each, (self.rank + 1) * each)


WHOLE = Share()


class _Gather(torch.autograd.Function):
    """Rows of all workers; backwards, this worker's rows times the number of workers.

    Every worker computes the same joint loss from the same rows, so the gradient of
    its own rows is complete without a second exchange. DistributedDataParallel divides
    the sum of the workers' parameter gradients by their number: hence the factor.
    """

    @staticmethod
    def forward(ctx, z: torch.Tensor) -> torch.Tensor:
        world = distributed.get_world_size()
        joint = z.new_empty((world * len(z), *z.shape[1:]))
        distributed.all_gather_into_tensor(joint, z.contiguous())
        return joint

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor) -> torch.Tensor:
        (gradient,) = gradients
        world = distributed.get_world_size()
        return gradient.chunk(world)[distributed.get_rank()] * world


def gather(z: torch.Tensor) -> torch.Tensor:
    """Gather the projections of all workers, by rank: [m, D] to [world * m, D].

    The same on every worker, with the gradient of a loss that every worker computes
    in the same way from all rows, for parameters under DistributedDataParallel.
    Without a process group ``z`` itself.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return z
    return _Gather.apply(z)


def gather_flags(flags: np.ndarray, device: torch.device) -> np.ndarray:
    """Gather the flags of all workers' images, by rank: bool [m] to [world * m]."""
    own = torch.from_numpy(flags).to(device, torch.uint8)
    return gather(own).cpu().numpy().astype(bool)


def backward_in_chunks(
    project: Callable[[torch.Tensor], torch.Tensor],
    chunks: Sequence[torch.Tensor],
    joint_loss: Callable[[torch.Tensor], torch.Tensor],
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> torch.Tensor:
    """Backpropagate a loss over all chunks, with the activations of one at a time.

    Each chunk is projected twice: first without a graph, for the loss and its gradient
    with respect to projections; then with one, to backpropagate that gradient.

    Args:
        project: images to projections [m, D]; the same numbers both times.
        chunks: this worker's images, in parts.
        joint_loss: projections [sum m, D] of this worker to the loss; it gathers.
        no_sync: context in which gradients are not exchanged (that of
            DistributedDataParallel), for all chunks but the last.

    Returns:
        The loss, detached. Gradients are added to the parameters' ``grad``.

    Source: Gao et al. 2021 (gradient cache).
    """
    with torch.no_grad():
        parts = [project(chunk) for chunk in chunks]
    joined = torch.cat(parts).requires_grad_()
    loss = joint_loss(joined)
    (gradient,) = torch.autograd.grad(loss, joined)
    for number, part in enumerate(gradient.split([len(part) for part in parts])):
        last = number == len(chunks) - 1
        with nullcontext() if last else no_sync():
            project(chunks[number]).backward(part)
    return loss.detach()
