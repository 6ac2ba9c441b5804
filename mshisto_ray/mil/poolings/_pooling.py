"""The interface of a pooling, and the probabilities of its logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from mshisto_ray.mil.ragged.segments import segment_logsumexp, widen


@dataclass(frozen=True)
class Auxiliary:
    """A second training loss: the whole is (1 - weight) bag + weight auxiliary.

    ``loss``: targets int64 [B] to the loss of each bag [B].
    """

    weight: float
    loss: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Pooled:
    """The output of a pooling for B bags with N instances and C classes.

    ``log_probabilities``: [B, C]; ``attention``: weights [N] that sum to one over
    each bag, None where the pooling has none; ``instance_probabilities``: [N, C],
    None where the pooling classifies only the bag; ``class_attention``: [N, C], each
    column summing to one over each bag, where a class has its own (``attention`` is
    then their mean); ``auxiliary``: a loss that training adds to the bag's loss;
    ``child_attention``: weights [M] of the tiles of each finer scale, where the model
    attends to them, parent by parent; ``outputs``: of the bag's classifier, [B, 1] for
    two classes and else [B, C], which targets other than classes take; None where the
    pooling is of probabilities and so needs classes.
    float32 at least.
    """

    log_probabilities: torch.Tensor
    attention: torch.Tensor | None = None
    instance_probabilities: torch.Tensor | None = None
    class_attention: torch.Tensor | None = None
    auxiliary: Auxiliary | None = None
    child_attention: tuple[torch.Tensor, ...] = ()
    outputs: torch.Tensor | None = None

    def bag_loss(self, targets: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood of each bag [B], for targets [B]."""
        return functional.nll_loss(self.log_probabilities, targets, reduction="none")

    def loss(self, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each bag [B] that training minimises, for targets [B]."""
        return self.with_auxiliary(self.bag_loss(targets), targets)

    def with_auxiliary(self, bag: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each bag [B] with its auxiliary part, if it has one."""
        if self.auxiliary is None:
            return bag
        weight = self.auxiliary.weight
        return (1 - weight) * bag + weight * self.auxiliary.loss(targets)


class Pooling(Protocol):
    """A torch module: instances [N, D] and offsets [B + 1] to ``Pooled``.

    Bag b is rows ``offsets[b]:offsets[b + 1]``; offsets are int64 on the CPU. The
    order of a bag's instances (with their places) and the other bags of the batch do
    not matter; a bag without instances is a ValueError. Half precision comes from
    autocast; weights are float32.

    Beside ``build`` a pooling's module may declare:

    - ``notes(sizes) -> list[str]``: what a user should know about bags of these sizes;
    - ``DEPENDS_ON_COUNT = True``: a bag repeated as a whole is another bag;
    - ``DILUTES = True``: one instance alone cannot make a bag positive;
    - ``NEEDS_PLACES = True``: it is called with a third argument, ``places`` int64
      [N, 2] on the CPU: row and column of each tile in its slide's grid, slides of one
      bag far apart; a bag table has none;
    - ``NEEDS_CLASSES = True``: it gives no ``outputs``, so that its target is classes;
    - ``INSTANCES_APART = True``: the instance of a bag of one may be given other
      probabilities than the bag.

    A module within it declares ``HAS_OTHER_ROWS = True`` where its linear layers see
    rows that are neither instances nor bags of the batch.
    """

    def __call__(self, h: torch.Tensor, offsets: torch.Tensor) -> Pooled: ...


def num_logits(num_classes: int) -> int:
    """Number of outputs of a classifier: one for two classes, else one per class.

    Two classes are a Bernoulli variable with a single logit for the second class, as
    in the paper; more are a categorical one.
    """
    return 1 if num_classes == 2 else num_classes


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logits [M, 1 or C] to log probabilities [M, C], finite for finite logits.

    The paper's code clamps probabilities to [1e-5, 1 - 1e-5] before the logarithm,
    which stops the gradient of a bag that is badly wrong; in logarithms no clamp is
    needed.
    """
    logits = widen(logits)
    if logits.shape[-1] > 1:
        return functional.log_softmax(logits, -1)
    return functional.logsigmoid(torch.cat([-logits, logits], 1))


def mean_of_instances(instances: torch.Tensor, offsets: torch.Tensor) -> Pooled:
    """P = (1 / K) sum_k p_k of the log probabilities [N, C] of the bags' instances.

    Worked out in logarithms, log P = logsumexp_k(log p_k) - log K, so that it is exact
    where all p_k are close to 0 or 1.
    """
    sizes = offsets.diff().to(instances)
    bag = segment_logsumexp(instances, offsets) - sizes.log()[:, None]
    return Pooled(bag, instance_probabilities=instances.exp())
