"""Losses of survival: the Cox partial likelihood, hazards of intervals."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional


def cox_loss(
    log_hazard: torch.Tensor, time: torch.Tensor, event: torch.Tensor
) -> torch.Tensor:
    """Efron's partial likelihood: a number per row, whose mean is the loss per event.

    An event at time t contributes log(S - (l / d) D) - log hazard, with S the summed
    hazards of all rows with a time of at least t, D those of the d events at t, and l =
    0 .. d - 1 numbering these. Rows censored at t are still at risk then. Sums are
    logarithmic, so that no hazard overflows. Rows without an event contribute 0; all
    are multiplied by rows / events.

    Source: Cox 1972; ties: Efron 1977, the efficiency of Cox's likelihood function.

    Args:
        log_hazard: [N].
        time: [N].
        event: 1 or 0, [N].
    """
    time, order = torch.sort(time, stable=True)
    eta, died = log_hazard[order], event[order] > 0
    if not bool(died.any()):
        return log_hazard * 0
    # log S: of each row and all that follow; of equal times the first row's holds.
    at_risk = eta.flip(0).logcumsumexp(0).flip(0)
    _, group, sizes = time.unique_consecutive(return_inverse=True, return_counts=True)
    first = functional.pad(sizes.cumsum(0), (1, 0))[:-1]
    log_s = at_risk[first][group][died]
    own, of_event = eta[died], group[died]
    tied = torch.zeros(len(sizes), dtype=torch.long, device=eta.device)
    tied.index_add_(0, of_event, torch.ones_like(of_event))
    # The most of each group keeps its sum from overflowing.
    most = torch.full((len(sizes),), -torch.inf, dtype=eta.dtype, device=eta.device)
    most = most.scatter_reduce(0, of_event, own.detach(), "amax")
    sums = torch.zeros_like(most).index_add(0, of_event, (own - most[of_event]).exp())
    log_d = sums[of_event].log() + most[of_event]
    begin = functional.pad(tied.cumsum(0), (1, 0))[:-1]
    number = torch.arange(len(own), device=eta.device) - begin[of_event]
    share = number.to(eta) / tied[of_event].to(eta)
    denominator = log_s + torch.log1p(-share * (log_d - log_s).exp())
    each = (denominator - own) * (len(eta) / len(own))
    places = order[died]
    return torch.zeros_like(log_hazard).index_add(0, places, each)


def hazard_loss(
    logits: torch.Tensor, interval: torch.Tensor, event: torch.Tensor
) -> torch.Tensor:
    """Negative log likelihood of discrete-time hazards, per row [N].

    With hazards h_k = sigm(logit_k): an event in interval j has the likelihood h_j
    prod_{k < j} (1 - h_k); a row censored in interval j has lived through those before,
    prod_{k < j} (1 - h_k).

    Source: Brown 1975; as a loss of networks Gensheimer, Narasimhan 2019, equation 3,
    where a row counts as at risk in the interval of its censoring if it lived through
    half of it; here it does not count.

    Args:
        logits: [N, K].
        interval: of the event or of censoring, int [N]; K: beyond all.
        event: 1 or 0, [N].
    """
    steps = torch.arange(logits.shape[1], device=logits.device)
    lived = steps < interval[:, None]
    ended = (steps == interval[:, None]) & (event[:, None] > 0)
    # log(1 - h) = -softplus(logit), log h = -softplus(-logit)
    losses = lived * functional.softplus(logits) + ended * functional.softplus(-logits)
    return losses.sum(1)


def constant_logits(encoded: torch.Tensor, num: int) -> torch.Tensor:
    """Logits [K] of the shares of those at risk that have the event, by interval.

    Args:
        encoded: interval, as of ``hazard_loss``, and event, [N, 2].
        num: K.
    """
    place, died = encoded[:, 0].numpy(), encoded[:, 1].numpy() > 0
    steps = np.arange(num)
    events = ((place[:, None] == steps) & died[:, None]).sum(0)
    at_risk = (place[:, None] > steps).sum(0) + events
    hazard = np.clip(events / np.maximum(at_risk, 1), 1e-9, 1 - 1e-9)
    return torch.from_numpy(np.log(hazard / (1 - hazard)))
