"""Reductions over the rows of each bag: ragged, without padding.

Bag b of a batch is rows ``offsets[b]:offsets[b + 1]`` of values [N, ...]; ``offsets``
[B + 1] lies on the CPU, so that no length is fetched from a device. Short bags are
reduced all at once, long ones one by one without a copy: gathering costs more than
calls there. Both ways give the same gradients, add in a fixed order, and work in
float32 at least. A single bag takes the fewest calls: bags of ten rows are trained on
in steps whose cost is that of the calls.
"""

from __future__ import annotations

import torch

# Mean rows per bag from which a call per bag is cheaper (measured on one CPU core:
# 64 bags of 10 rows 7 times faster all at once, of 100 rows 6 times slower).
_LONG = 64


def check_bags(values: torch.Tensor, offsets: torch.Tensor) -> None:
    """Refuse a bag without instances, naming its place in the batch.

    Raises:
        ValueError: an empty bag, or offsets that do not cover the rows.
    """
    if offsets.tolist() == [0, len(values)] and len(values):
        return
    sizes = offsets.diff()
    if sizes.numel() == 0 or int(sizes.min()) <= 0:
        empty = (sizes <= 0).nonzero().flatten().tolist()
        raise ValueError(
            f"empty bag at place {', '.join(map(str, empty)) or 'none'} of the batch: "
            "a pooling needs at least one instance in every bag"
        )
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(values):
        raise ValueError(
            f"offsets {int(offsets[0])}..{int(offsets[-1])} do not cover "
            f"{len(values)} instances"
        )


def widen(values: torch.Tensor) -> torch.Tensor:
    """Half precision to float32; float32 and float64 stay."""
    return values.float() if values.dtype.itemsize < 4 else values


def segment_sum(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Sum over each bag's rows: [N, D] to [B, D]."""
    values = widen(values)
    if len(offsets) == 2:
        return values.sum(0, keepdim=True)
    if one_by_one(offsets):
        return torch.stack([part.sum(0) for part in _parts(values, offsets)])
    return _reduce(values, "sum", offsets)


def segment_mean(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Mean over each bag's rows: [N, D] to [B, D]."""
    if len(offsets) == 2:
        return segment_sum(values, offsets) / len(values)
    sizes = offsets.diff().to(values.device)
    return segment_sum(values, offsets) / sizes[:, None]


def segment_max(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Largest value of each column over each bag's rows: [N, D] to [B, D].

    Equal largest values share the gradient, so that no order of rows matters.
    """
    values = widen(values)
    if len(offsets) == 2:
        return values.amax(0, keepdim=True)
    if one_by_one(offsets):
        return torch.stack([part.amax(0) for part in _parts(values, offsets)])
    return _reduce(values, "max", offsets)


def segment_logsumexp(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Log of the sum of exponentials over each bag's rows: [N, D] to [B, D]."""
    values = widen(values)
    if len(offsets) == 2:
        return values.logsumexp(0, keepdim=True)
    if one_by_one(offsets):
        return torch.stack([part.logsumexp(0) for part in _parts(values, offsets)])
    top = _reduce(values.detach(), "max", offsets)
    shifted = (values - spread(top, offsets)).exp()
    return _reduce(shifted, "sum", offsets).log() + top


def segment_softmax(scores: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Scores [N, ...] to weights [N, ...] that sum to one over each bag's rows."""
    scores = widen(scores)
    if len(offsets) == 2:
        return scores.softmax(0)
    if one_by_one(offsets):
        return torch.cat([part.softmax(0) for part in _parts(scores, offsets)])
    top = _reduce(scores.detach(), "max", offsets)
    weights = (scores - spread(top, offsets)).exp()
    return weights / spread(_reduce(weights, "sum", offsets), offsets)


def segment_weighted_sum(
    weights: torch.Tensor, values: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """Sum of weights times values [N, D] over each bag's rows.

    Weights [N] give [B, D]; a column of weights a branch, [N, A], gives [B, A, D].
    """
    values = widen(values)
    if one_by_one(offsets):
        pairs = zip(_parts(weights, offsets), _parts(values, offsets), strict=True)
        # Autocast would put the product into half precision.
        with torch.autocast(values.device.type, enabled=False):
            found = [(w[None] if w.ndim == 1 else w.mT) @ value for w, value in pairs]
        return torch.cat(found) if weights.ndim == 1 else torch.stack(found)
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


def one_by_one(offsets: torch.Tensor) -> bool:
    """Whether bags are long enough that a call for each is cheaper."""
    num_bags = len(offsets) - 1
    return num_bags == 1 or int(offsets[-1]) >= _LONG * num_bags


def _parts(values: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if len(offsets) == 2:
        return (values,)
    return values.split(offsets.diff().tolist())


def _reduce(values: torch.Tensor, how: str, offsets: torch.Tensor) -> torch.Tensor:
    return torch.segment_reduce(values, how, offsets=offsets.to(values.device))


def spread(per_bag: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Each bag's row for each of its instances: [B, ...] to [N, ...]."""
    sizes = offsets.diff().to(per_bag.device)
    index = torch.arange(len(sizes), device=per_bag.device)
    return per_bag[index.repeat_interleave(sizes, output_size=int(offsets[-1]))]
