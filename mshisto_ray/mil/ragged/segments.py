"""Reductions over the rows of each bag, in the form that is fastest.

Bag b of a batch is rows ``offsets[b]:offsets[b + 1]`` of values [N, ...]; ``offsets``
[B + 1] lies on the CPU, so that no length is fetched from a device. Short bags are
reduced all at once: ragged on CPUs, padded to the longest on GPUs (see ``padding``)
unless that wastes memory. Long ones are reduced one by one without a copy: gathering
costs more than calls there. All ways give the same gradients, add in a fixed order, and
work in float32 at least. A single bag takes the fewest calls: for bags of ten rows the
calls dominate the cost of a training step.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Literal

import torch

from mshisto_ray.mil.ragged.padding import Padding

# Mean rows per bag from which a call per bag is cheaper. Measured on one CPU core: 64
# bags of 10 rows 7 times faster all at once, of 100 rows 6 times slower. On an H100
# training steps of 64 bags of 100 rows take 7 ms one by one and 1.6 padded; of 2,500
# rows both are bound by the layers before.
_LONG = {"cpu": 64, "cuda": 2048}
# Devices on which padding is faster than ragged reductions; the most cells per row.
_PADS = {"cuda"}
_MOST_PADDING = 4


_Form = Literal["apart", "padded", "ragged"]
_fixed: _Form | None = None


@contextlib.contextmanager
def form_for(mean_rows: float) -> Iterator[None]:
    """Reduce all batches within it on a CPU as is fastest for bags of this size.

    The forms round in other ways, so that a bag's sum may depend on the bags beside it.
    """
    global _fixed
    _fixed = "apart" if mean_rows >= _LONG["cpu"] else "ragged"
    try:
        yield
    finally:
        _fixed = None


def check_bags(values: torch.Tensor, offsets: torch.Tensor) -> None:
    """Refuse a bag without instances, naming its place in the batch.

    Raises:
        ValueError: an empty bag, or offsets that do not cover the rows.
    """
    ends = offsets.tolist()  # one call: for small bags the calls dominate the cost
    if ends == [0, len(values)] and len(values):
        return
    pairs = enumerate(itertools.pairwise(ends))
    empty = [place for place, (start, end) in pairs if end <= start]
    if len(ends) < 2 or empty:
        raise ValueError(
            f"empty bag at place {', '.join(map(str, empty)) or 'none'} of the batch: "
            "a pooling needs at least one instance in every bag"
        )
    if ends[0] != 0 or ends[-1] != len(values):
        raise ValueError(
            f"offsets {ends[0]}..{ends[-1]} do not cover {len(values)} instances"
        )


def widen(values: torch.Tensor) -> torch.Tensor:
    """Half precision to float32; float32 and float64 stay."""
    return values.float() if values.dtype.itemsize < 4 else values


def segment_sum(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Sum over each bag's rows: [N, D] to [B, D]."""
    values = widen(values)
    if _is_single(offsets):
        return values.sum(0, keepdim=True)
    form = _form(values, offsets)
    if form == "apart":
        return torch.stack([part.sum(0) for part in _parts(values, offsets)])
    if form == "padded":
        return Padding(offsets, values.device).pad(values, 0).sum(1)
    return _reduce(values, "sum", offsets)


def segment_mean(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Mean over each bag's rows: [N, D] to [B, D]."""
    if _is_single(offsets):
        return segment_sum(values, offsets) / len(values)
    sizes = offsets.diff().to(values.device)
    return segment_sum(values, offsets) / sizes[:, None]


def segment_max(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Largest value of each column over each bag's rows: [N, D] to [B, D].

    Equal largest values share the gradient, so that no order of rows matters.
    """
    values = widen(values)
    if _is_single(offsets):
        return values.amax(0, keepdim=True)
    form = _form(values, offsets)
    if form == "apart":
        return torch.stack([part.amax(0) for part in _parts(values, offsets)])
    if form == "padded":
        return Padding(offsets, values.device).pad(values, -torch.inf).amax(1)
    return _reduce(values, "max", offsets)


def segment_logsumexp(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Log of the sum of exponentials over each bag's rows: [N, D] to [B, D]."""
    values = widen(values)
    if _is_single(offsets):
        return values.logsumexp(0, keepdim=True)
    form = _form(values, offsets)
    if form == "apart":
        return torch.stack([part.logsumexp(0) for part in _parts(values, offsets)])
    if form == "padded":
        return Padding(offsets, values.device).pad(values, -torch.inf).logsumexp(1)
    top = _reduce(values.detach(), "max", offsets)
    shifted = (values - spread(top, offsets)).exp()
    return _reduce(shifted, "sum", offsets).log() + top


def segment_softmax(scores: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Scores [N, ...] to weights [N, ...] that sum to one over each bag's rows."""
    scores = widen(scores)
    if _is_single(offsets):
        return scores.softmax(0)
    form = _form(scores, offsets)
    if form == "apart":
        return torch.cat([part.softmax(0) for part in _parts(scores, offsets)])
    if form == "padded":
        padding = Padding(offsets, scores.device)
        # Not -inf, which makes NaN of the cells of a bag without rows.
        least = torch.finfo(scores.dtype).min
        return padding.unpad(padding.pad(scores, least).softmax(1))
    owners = _owners(offsets, scores.device)
    top = _reduce(scores.detach(), "max", offsets)
    weights = (scores - top.index_select(0, owners)).exp()
    return weights / _reduce(weights, "sum", offsets).index_select(0, owners)


def segment_weighted_sum(
    weights: torch.Tensor, values: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """Sum of weights times values [N, D] over each bag's rows.

    Weights [N] give [B, D]; one column per branch, [N, A], gives [B, A, D].
    """
    values = widen(values)
    form = _form(values, offsets)
    # Autocast would put the products into half precision.
    with _without_autocast(values.device.type):
        if form == "apart":
            pairs = zip(_parts(weights, offsets), _parts(values, offsets), strict=True)
            found = [(w[None] if w.ndim == 1 else w.mT) @ value for w, value in pairs]
            return torch.cat(found) if weights.ndim == 1 else torch.stack(found)
        if form == "padded":
            padding = Padding(offsets, values.device)
            w, value = padding.pad(weights, 0), padding.pad(values, 0)
            if weights.ndim == 1:
                return (w[:, None] @ value).squeeze(1)
            return w.mT @ value
    if weights.ndim == 1:
        return _reduce(weights[:, None] * values, "sum", offsets)
    return _reduce(weights[:, :, None] * values[:, None], "sum", offsets)


def segment_top(
    values: torch.Tensor, offsets: torch.Tensor, counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of each bag's largest values, column by column.

    Args:
        values: [N, A].
        offsets: of B bags.
        counts: how many of each bag, int64 [B] on the CPU, at most its size.

    Returns:
        ``rows`` int64 [M, A], bag by bag and from the largest down, and their
        ``offsets`` [B + 1].
    """
    order = torch.sort(values.detach(), stable=True, dim=0, descending=True).indices
    bag = spread(torch.arange(len(counts), device=values.device), offsets)
    grouped = order.gather(0, torch.sort(bag[order], stable=True, dim=0).indices)
    ends = torch.cat([offsets.new_zeros(1), counts.cumsum(0)])
    shift = (offsets[:-1] - ends[:-1]).repeat_interleave(counts)
    first = torch.arange(int(ends[-1])) + shift
    return grouped[first.to(values.device)], ends


def one_by_one(offsets: torch.Tensor, device: torch.device) -> bool:
    """Whether bags are long enough that a call for each is cheaper."""
    num_bags = len(offsets) - 1
    return num_bags == 1 or int(offsets[-1]) >= _LONG[device.type] * num_bags


def _without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    """Nothing to enter where it is off: entering takes longer than a small product."""
    if not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def _is_single(offsets: torch.Tensor) -> bool:
    return len(offsets) == 2 and _fixed != "ragged"


def _form(values: torch.Tensor, offsets: torch.Tensor) -> _Form:
    if _fixed:
        return _fixed
    if one_by_one(offsets, values.device):
        return "apart"
    if values.device.type not in _PADS:
        return "ragged"
    cells = (len(offsets) - 1) * int(offsets.diff().max())
    return "padded" if cells <= _MOST_PADDING * int(offsets[-1]) else "ragged"


def _parts(values: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if len(offsets) == 2:
        return (values,)
    return values.split(offsets.diff().tolist())


def _reduce(values: torch.Tensor, how: str, offsets: torch.Tensor) -> torch.Tensor:
    return torch.segment_reduce(values, how, offsets=offsets.to(values.device))


def spread(per_bag: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Each bag's row for each of its instances: [B, ...] to [N, ...]."""
    return per_bag.index_select(0, _owners(offsets, per_bag.device))


def _owners(offsets: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The bag of each instance, int64 [N]."""
    sizes = offsets.diff().to(device)
    return torch.repeat_interleave(sizes, output_size=int(offsets[-1]))
