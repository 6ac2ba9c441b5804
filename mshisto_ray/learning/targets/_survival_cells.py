"""Times and events of a table: read, checked, described, cut into intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets._cells import (
    Cells,
    complete,
    numbers,
    one_hot,
    quantile_codes,
)
from mshisto_ray.learning.targets._target import Strata

_GROUPS = 4
_EVENTS = {"0": 0.0, "1": 1.0, "False": 0.0, "True": 1.0}


def read_times(
    cells: Sequence[Cells], rows: Sequence[str], time: str, event: str
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows that have both columns, and their times and events.

    Args:
        cells: of time and event, row by row.
        rows: names of the rows.
        time: name of the time's column.
        event: name of the event's column.

    Returns:
        Places int [M]; time and event (1, 0), float64 [M, 2].

    Raises:
        InputError: a time that is no number or negative, an event that is not 1 or 0.
    """
    kept, _ = complete(cells, rows, "rows", (time, event))
    own = [rows[int(i)] for i in kept]
    times = numbers(time, [str(cells[i][0]) for i in kept], own)
    events = _read_events(event, [str(cells[i][1]) for i in kept], own)
    early = [f"{n} ({t:g})" for n, t in zip(own, times, strict=True) if t < 0]
    if early:
        raise InputError(
            f"{time}: {len(early)} times are negative: {', '.join(early[:3])}"
            f"{', ...' if early[3:] else ''}; a time counts from the start of "
            "observation: correct them, or leave the cells empty"
        )
    return kept, np.stack([times, events], 1)


def check_times(truth: np.ndarray, what: str, time: str, event: str) -> None:
    """Refuse times and events that nothing can be learned from.

    Args:
        truth: time and event, [N, 2].
        what: of which these are the rows, in the plural.
        time: name of the time's column.
        event: name of the event's column.

    Raises:
        InputError: no event, or all times equal.
    """
    if not len(truth):
        return
    times, events = truth.T
    if not events.any():
        raise InputError(
            f"{event}: no event among {len(events)} {what}, and survival is learned "
            "from events: is it the right column, and 1 the event?"
        )
    if np.ptp(times) == 0:
        raise InputError(
            f"{time}: all {len(times)} times are {times[0]:g}, so nothing can be "
            "learned from them: is it the right column?"
        )


def _read_events(column: str, cells: Sequence[str], names: Sequence[str]) -> np.ndarray:
    wrong = [f"{n} ({c!r})" for n, c in zip(names, cells, strict=True)
             if c not in _EVENTS]  # fmt: skip
    if wrong:
        raise InputError(
            f"{column}: {len(wrong)} of {len(cells)} values are neither 1 "
            f"(event) nor 0 (censored): {', '.join(wrong[:3])}"
            f"{', ...' if wrong[3:] else ''}; write 1 or 0"
        )
    return np.array([_EVENTS[cell] for cell in cells])


def interval_ends(
    time: np.ndarray, event: np.ndarray, num: int, column: str
) -> tuple[str, ...]:
    """Ends of ``num`` intervals: quantiles of the times of events, the largest time.

    Raises:
        InputError: fewer different times of events.
    """
    died = time[event > 0]
    inner = np.quantile(died, np.arange(1, num) / num, method="inverted_cdf")
    ends = np.unique([*inner, time.max()])
    if len(ends) < num:
        raise InputError(
            f"{column}: {len(died)} events have too few different times for "
            f"target.intervals={num}: give fewer, or target.loss=cox"
        )
    return tuple(f"{end:.12g}" for end in ends)


def survival_strata(truth: np.ndarray, folds: int) -> Strata:
    """Events, and censored bags, by quarters of their times; ``truth``: [N, 2]."""
    died = truth[:, 1] > 0
    parts, labels = [died.astype(np.int64)[:, None]], ["with an event"]
    for state, name in ((died, "event"), (~died, "censored")):
        if not state.any():
            continue
        num = max(1, min(_GROUPS, int(state.sum()) // folds))
        codes = np.zeros((len(truth), num), np.int64)
        codes[state] = one_hot(quantile_codes(truth[state, 0], num), num)
        parts.append(codes)
        labels += [f"{name}, group {i + 1} of {num}" for i in range(num)]
    return Strata(np.concatenate(parts, 1), tuple(labels), ("with an event",))


def describe_times(truth: np.ndarray, time: str, event: str, last: float) -> str:
    """Events, times, and how far survival is predicted.

    Args:
        truth: time and event, [N, 2].
        time: name of the time's column.
        event: name of the event's column.
        last: the latest time that survival is predicted for, 0 without any.
    """
    times, died = truth.T
    found = (
        f"{int(died.sum())} with an event ({event}), {time} {np.median(times):.4g} "
        f"(median, up to {times.max():.4g})"
    )
    if not last:
        return found
    return (
        f"{found}, survival predicted up to {last:g}, which "
        f"{int((times > last).sum())} are observed beyond, after "
        f"{int(died[times <= last].sum())} events"
    )
