"""An evaluation of encoders as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mshisto_ray.statistics.bootstrap import Interval

_NEUTRAL = {"effective_rank"}  # more is not better: nothing is set in bold


@dataclass(frozen=True)
class Difference:
    """Paired differences first - second, by metric."""

    first: str
    second: str
    intervals: Mapping[str, Interval]


def summary(
    about: str,
    encoders: Mapping[str, Mapping[str, Interval]],
    chance: Mapping[str, float],
    differences: Sequence[Difference],
    notes: Sequence[str],
) -> str:
    """Markdown: scores of every encoder, of single classes, and the differences.

    Args:
        about: paragraph on tiles and queries.
        encoders: scores by encoder and metric; ``metric.class`` for single classes.
        chance: scores at chance level, by metric.
        differences: of pairs of encoders.
        notes: what was left out.
    """
    names = list(next(iter(encoders.values())))
    overall = [name for name in names if "." not in name]
    lines = ["# Evaluation", "", about, ""]
    lines += _table(encoders, chance, overall)
    for metric in overall:
        single = [name for name in names if name.startswith(f"{metric}.")]
        if single:
            lines += ["", f"## {metric} by class", ""]
            lines += _table(encoders, chance, single, f"{metric}.")
    lines += ["", "## Differences", ""]
    lines += [
        "First minus second, paired: both had the same queries and pairs and were "
        "resampled together. Bold: the interval excludes 0.",
        "",
    ]
    shown = [name for name in overall if name not in _NEUTRAL]
    lines += [_row(["", *shown]), _rule(len(shown))]
    for pair in differences:
        cells = [_gap(pair.intervals.get(name)) for name in shown]
        lines.append(_row([f"{pair.first} - {pair.second}", *cells]))
    if notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _table(
    encoders: Mapping[str, Mapping[str, Interval]],
    chance: Mapping[str, float],
    names: Sequence[str],
    prefix: str = "",
) -> list[str]:
    lines = [
        _row(["encoder", *(name.removeprefix(prefix) for name in names)]),
        _rule(len(names)),
    ]
    for encoder, scores in encoders.items():
        lines.append(_row([encoder, *(_cell(scores.get(name)) for name in names)]))
    levels = [f"{chance[name]:.3f}" if name in chance else "" for name in names]
    lines.append(_row(["chance", *levels]))
    return lines


def _cell(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return ""
    if math.isnan(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _gap(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return ""
    text = f"{interval.value:+.3f}"
    if not math.isnan(interval.low):
        text += f" ({interval.low:+.3f} to {interval.high:+.3f})"
    return f"**{text}**" if interval.low > 0 or interval.high < 0 else text


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rule(num: int) -> str:
    return _row(["---"] * (num + 1))
