"""Models compared on the same patients, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from mshisto_ray.learning import risks
from mshisto_ray.learning.ranking import Place, Ranking
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.statistics.bootstrap import Interval

_ABOUT = """# Models compared

Ranked by `{metric}`. Values have {method}. Difference: of `{metric}`, less that of the
reference on the same patients. p: of no difference, after Holm's correction for all
comparisons with the reference; p over folds: the corrected resampled t test of Nadeau
and Bengio (2003), which includes what training varies by, without a correction. Models
that share a letter (last column) cannot be told apart, after Holm's correction for all
pairs. The best of several models was found on these very patients: its value is too
high by what luck adds, more so the more models there are.
"""
_SURVIVAL = """
`c` is Harrell's, of pairs of which the earlier time is an event; equal times are not
compared. `folds` is the mean over folds, `pooled` compares patients across folds, whose
risks come from different models. `uno_c` and `auc_<time>` are weighted for censoring.
"""
_METRIC_COLUMNS = ("group", "model", "metric", "value", "low", "high")
_GAP_COLUMNS = (
    "group", "model", "reference", "metric", "difference", "low", "high", "p", "p_holm",
    "p_folds", "letters",
)  # fmt: skip


def summary(rankings: Sequence[Ranking], survival: bool) -> str:
    """Markdown: what the columns mean, and a table for each group."""
    method = risks.METHOD if survival else TargetConfig().build().interval_method
    parts = [_ABOUT.format(metric=rankings[0].metric, method=method)]
    parts += [_SURVIVAL] if survival else []
    for ranking in rankings:
        parts.append(f"\n## {ranking.group}\n\n{ranking.size}. {_lead(ranking)}\n")
        parts.append("\n" + "\n".join(_table(ranking)) + "\n")
    return "".join(parts)


def metric_table(rankings: Sequence[Ranking]) -> str:
    """CSV, a row a group, model and metric; a number not defined is empty."""
    return _csv(
        _METRIC_COLUMNS,
        [
            [r.group, p.model, name, *_cells(v.value, v.low, v.high)]
            for r in rankings
            for p in r.places
            for name, v in p.values.items()
        ],
    )


def difference_table(rankings: Sequence[Ranking]) -> str:
    """CSV, a row a group and model; the reference's differences are empty."""
    unknown = Interval(math.nan, math.nan, math.nan)
    rows = []
    for r in rankings:
        for p in r.places:
            gap = p.difference or unknown
            numbers = (gap.value, gap.low, gap.high, p.p, p.p_holm, p.p_folds)
            about = [r.group, p.model, r.reference, r.metric]
            rows.append([*about, *_cells(*numbers), p.letters])
    return _csv(_GAP_COLUMNS, rows)


def _lead(ranking: Ranking) -> str:
    """A sentence: the reference against the best other model."""
    others = [p for p in ranking.places if p.model != ranking.reference]
    if not others or others[0].difference is None:
        return "One model."
    best, gap = others[0], others[0].difference
    lead = _interval(Interval(-gap.value, -gap.high, -gap.low), "+.3f")
    noise = "within noise" if gap.low <= 0 <= gap.high else "beyond noise"
    return (
        f"`{ranking.reference}` less the best other, `{best.model}`: {lead}, {noise} "
        "before any correction."
    )


def _table(ranking: Ranking) -> list[str]:
    names = list(ranking.places[0].values)
    header = ["", "model", *names, "difference", "p", "p over folds", ""]
    lines = [header, ["---"] * len(header)]
    for place, row in enumerate(ranking.places, start=1):
        lines.append(_row(str(place), row, names, row.model == ranking.reference))
    return ["| " + " | ".join(line) + " |" for line in lines]


def _row(place: str, row: Place, names: Sequence[str], chosen: bool) -> list[str]:
    cells = [_interval(row.values[name], ".3f") for name in names]
    gap = "reference" if chosen else ""
    if row.difference is not None:
        gap = _interval(row.difference, "+.3f")
    name = row.model.replace("|", "\\|")
    return [place, name, *cells, gap, _p(row.p_holm), _p(row.p_folds), row.letters]


def _interval(found: Interval, form: str) -> str:
    if math.isnan(found.value):
        return ""
    if math.isnan(found.low):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _cells(*numbers: float) -> list[str]:
    return ["" if math.isnan(v) else repr(float(v)) for v in numbers]


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
