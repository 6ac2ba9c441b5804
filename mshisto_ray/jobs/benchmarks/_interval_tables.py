"""Tables of the coverage of intervals, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.jobs.benchmarks._cohorts import Setting


@dataclass(frozen=True)
class Found:
    """What 95 % intervals of many cohorts hold.

    ``coverage``: share that holds the true value; ``width``: their mean;
    ``without_zero``: share that leaves out 0.
    """

    coverage: float
    width: float
    without_zero: float


@dataclass(frozen=True)
class Coverage:
    """What was found in one setting for one value, by way of making intervals."""

    setting: Setting
    value: str
    held: Mapping[str, Found]


_ABOUT = """# Coverage of 95 % intervals

Made by `python jobs/benchmark.py intervals`: the share of intervals that hold the true
value in simulated cohorts of {patients} patients with one slide each or one
to four, a tenth, three tenths or half of them positive. A patient's slides share half
of the variance of their scores. Cells: mean (least to most) over settings; {cohorts}
cohorts a setting for AUROC and its differences, {whole} for other metrics.

`score` is what metrics have (`mshisto_ray/statistics/score_interval.py`). The
percentile bootstrap and DeLong's interval have no width where AUROC is 1; near it, and
with few patients of a class, they hold far too few values. DeLong's on the logit scale
is better and fails at the same places. Newcombe's method 5, with patients in place of
slides, knows no data but the AUROC: it is too wide where a patient has several slides
and too narrow where the scores of one class spread further. `score` holds 95.6 to
97.5 % on average up to an AUROC of .95, and 98 % at .99: an interval with a width where
no patient is ranked wrong has to hold more than 95 % next to it. With two to five
positive patients it may fall to .91, and to .84 where the classes spread differently.

The difference of two models on the same patients combines the score intervals of both
by the correlation of their values (`mshisto_ray/statistics/paired.py`). Of AUROCs it
holds 94 to 99 % on average, and .87 at the least, whether scores correlate by .5, .9 or
.98; DeLong's own holds 82 to 98 %, and .43 at the least, where one is near 1. `opposite
ends` is the usual combination (Zou 2007), which takes the low end of one interval with
the high end of the other: as good for models that agree little, and far too wide near 1
for those that agree. For AUROCs of .95 and .92 whose scores correlate by .98 it leaves
out 0 in 27 % of cohorts, `score` in 45 %, DeLong's in 53 %; DeLong's holds the true
difference in 84 % of them, `score` in 97 %. Two models that agree closely may decide
every patient at hand alike, which does not show that they decide all patients alike.
So one more disagreement is counted; the interval of the difference of two accuracies
then holds 97 % or more on average, and .93 at the least.

Other metrics have the fault of AUROC and the same remedy. Precision, F1 and PR-AUC are
held too often here, in part because all cohorts of a setting have the same number of
positive patients, which a bootstrap does not know.

"""


Key = Callable[[Coverage], str]


def render(found: Mapping[str, list[Coverage]], cohorts: int, whole: int) -> str:
    """All tables.

    Args:
        found: ``auroc``, ``unequal``, ``difference``, ``accuracy`` and ``metrics``.
        cohorts: simulated in each setting.
        whole: likewise, for metrics other than AUROC.
    """
    inner = [c for c in found["auroc"] if c.setting.auroc < 1]
    odd = [c for c in found["unequal"] if c.setting.auroc < 1]
    perfect = [c for c in found["auroc"] if c.setting.auroc == 1]
    blocks = [
        (f"AUROC, by its true value; {cohorts} cohorts a setting", _by_area, inner),
        ("AUROC, by the number of positive patients", _by_positive, inner),
        ("AUROC, by slides of a patient", _by_slides, inner),
        ("AUROC, where positive scores spread 1.7 times as far", _by_area, odd),
        (f"Other metrics; {whole} cohorts a setting", _by_value, found["metrics"]),
    ]
    parts = [f"## {title}\n\n{_table(key, rows)}" for title, key, rows in blocks]
    parts[-1:-1] = _gap_parts(found)
    parts.append(f"## Width of the interval where AUROC is 1\n\n{_widths(perfect)}")
    parts.append(f"## Every setting of AUROC\n\n{_every(found['auroc'])}")
    patients = sorted({c.setting.patients for c in found["auroc"]})
    listed = ", ".join(map(str, patients))
    about = _ABOUT.format(patients=listed, cohorts=cohorts, whole=whole)
    return about + "\n".join(parts)


def _gap_parts(found: Mapping[str, list[Coverage]]) -> list[str]:
    """Coverage by agreement and spread, and how many intervals leave out 0."""
    gaps = [c for c in found["difference"] if c.setting.auroc < 1]
    kinds: dict[tuple[float, float], list[Coverage]] = {}
    for gap in gaps:
        kinds.setdefault((gap.setting.spread, gap.setting.agreement), []).append(gap)
    parts = []
    for (spread, agreement), members in sorted(kinds.items()):
        title = f"Difference of two AUROCs, scores correlated by {agreement:g}"
        if spread != 1:
            title += f", positive ones spread {spread:g} times as far"
        parts.append(f"## {title}\n\n{_table(_by_value, members)}")
    real = [gap for gap in gaps if _differs(gap.value)]
    parts.append(f"## Differences whose interval leaves out 0\n\n{_apart(real)}")
    decided = [c for c in found["accuracy"] if c.setting.auroc < 1]
    title = "Difference of the accuracies of models of these AUROCs, by correlation"
    parts.append(f"## {title}\n\n{_table(_by_value_and_agreement, decided)}")
    return parts


def _differs(value: str) -> bool:
    first, second = value.split(" - ")
    return first != second


def _apart(rows: Sequence[Coverage]) -> str:
    """Mean share of intervals that leave out 0, by difference and agreement."""
    ways = list(rows[0].held)
    groups: dict[tuple[str, float], list[Coverage]] = {}
    for row in rows:
        groups.setdefault((row.value, row.setting.agreement), []).append(row)
    header = ["difference", "correlation of scores", *ways]
    lines = [header, ["---"] * len(header)]
    for (value, agreement), members in sorted(groups.items()):
        shares = [np.mean([m.held[way].without_zero for m in members]) for way in ways]
        lines.append([value, f"{agreement:g}", *map(_short, map(float, shares))])
    return _markdown(lines)


def _by_area(coverage: Coverage) -> str:
    return f"{coverage.setting.auroc:g}"


def _by_value(coverage: Coverage) -> str:
    return coverage.value


def _by_value_and_agreement(coverage: Coverage) -> str:
    return f"{coverage.value}, {coverage.setting.agreement:g}"


def _by_slides(coverage: Coverage) -> str:
    return "one to four" if coverage.setting.slides > 1 else "one"


def _by_positive(coverage: Coverage) -> str:
    num = coverage.setting.positive
    return "2 to 5" if num < 6 else "6 to 12" if num < 13 else "20 to 100"


def _table(key: Key, rows: Sequence[Coverage]) -> str:
    """Mean (least to most) coverage over the settings of each key, by way."""
    ways = list(rows[0].held)
    groups: dict[str, list[Coverage]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    lines = [["", *ways], ["---"] * (len(ways) + 1)]
    for name, members in groups.items():
        held = [[m.held[way].coverage for m in members] for way in ways]
        lines.append([name, *map(_spread, held)])
    inside = [
        np.mean([0.93 <= row.held[way].coverage <= 0.97 for row in rows])
        for way in ways
    ]
    lines.append([".93 to .97 in", *(f"{share:.0%} of settings" for share in inside)])
    widths = [float(np.mean([r.held[way].width for r in rows])) for way in ways]
    lines.append(["mean width", *map(_short, widths)])
    return _markdown(lines)


def _widths(rows: Sequence[Coverage]) -> str:
    """Mean width by patients, over the settings of each way."""
    ways = list(rows[0].held)
    lines = [["patients (positive)", *ways], ["---"] * (len(ways) + 1)]
    for row in rows:
        if row.setting.slides == 1:
            name = f"{row.setting.patients} ({row.setting.positive})"
            lines.append([name, *(_short(row.held[way].width) for way in ways)])
    return _markdown(lines)


def _every(rows: Sequence[Coverage]) -> str:
    ways = list(rows[0].held)
    header = ["patients", "positive", "slides", "AUROC", *ways]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        s = row.setting
        about = [str(s.patients), str(s.positive), _by_slides(row), f"{s.auroc:g}"]
        lines.append([*about, *(_short(row.held[way].coverage) for way in ways)])
    return _markdown(lines)


def _spread(values: Sequence[float]) -> str:
    least, most = _short(min(values)), _short(max(values))
    return f"{_short(float(np.mean(values)))} ({least} to {most})"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
