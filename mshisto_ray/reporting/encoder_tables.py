"""Tables of encoders beside their ranking: few tiles, sites, a second task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import kendalltau

from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.tile_classification.ranking import rank
from mshisto_ray.tile_classification.sites import Robustness


def few_shot_table(
    scores: Mapping[str, Mapping[int, TileMetrics]], metric: str, draws: int
) -> list[str]:
    """Lines: a row an encoder, a column a number of tiles a class."""
    shots = list(next(iter(scores.values())))
    rows = [
        [name, *(_shown(own[k].interval(metric)) for k in shots)]
        for name, own in scores.items()
    ]
    heads = ["encoder", *(f"{k} a class" for k in shots)]
    text = f"SimpleShot, {metric}, mean over {draws} draws of tiles."
    return ["", "## Few tiles", "", text, "", *_table(heads, rows)]


def site_table(
    found: Mapping[str, Robustness],
    known: Mapping[str, TileMetrics],
    metric: str,
    probe: str,
) -> list[str]:
    """Lines: how far encoders follow classes, and how far sites.

    Args:
        found: of each encoder.
        known: metrics of ``probe`` with tiles of all sites in training.
        metric: of the probe.
        probe: its name.
    """
    rows = []
    for name, own in found.items():
        cells = [name, _shown(own.index), f"{own.clustering:+.3f}"]
        cells += [_shown(known[name].interval(metric)), "", ""]
        if own.left_out:
            cells[4] = _shown(own.left_out.interval(metric))
            cells[5] = _shown(_drop(known[name], own.left_out, metric), "+")
        rows.append(cells)
    heads = ["encoder", "robustness index", "clustering score", "sites in training",
             "sites left out", "drop"]  # fmt: skip
    text = (
        "Robustness index: of the 50 nearest tiles of other patients those of the same "
        "class and another site, out of these and those of another class and the same "
        "site (1: the class decides, 0: the site). Clustering score: agreement of "
        f"clusters with classes less that with sites. The last three: {metric} of "
        f"{probe}, cross-validated over all sites, and on sites that it did not learn "
        "from; the drop is paired on the same patients."
    )
    return ["", "## Sites", "", text, "", *_table(heads, rows)]


def second_table(
    first: Mapping[str, TileMetrics], second: Mapping[str, TileMetrics], metric: str
) -> list[str]:
    """Lines: whether the ranking of a task holds on another."""
    places = {row.name: row for row in rank(first, metric)}
    others = {row.name: row for row in rank(second, metric)}
    rows = [
        [name, _shown(row.score), str(row.group), _shown(others[name].score),
         str(others[name].group)]
        for name, row in places.items()
    ]  # fmt: skip
    heads = ["encoder", metric, "group", f"{metric}, second task", "group"]
    values = [[scores[name].values[metric] for name in places] for scores in
              (first, second)]  # fmt: skip
    tau = kendalltau(*values)[0] if len(places) > 1 else np.nan
    best = next(iter(places))
    holds = "is" if others[best].group == 1 else "is not"
    text = (
        f"Kendall's tau of the two rankings: {tau:.2f}. The best of the first, {best}, "
        f"{holds} among those that cannot be told apart from the best of the second."
    )
    return ["", "## A second task", "", text, "", *_table(heads, rows)]


def _drop(known: TileMetrics, left_out: TileMetrics, metric: str) -> Interval:
    value = known.values[metric] - left_out.values[metric]
    one, other = known.replicates[metric], left_out.replicates[metric]
    if len(one) != len(other):
        return Interval(value, np.nan, np.nan)
    return percentile_interval(value, one - other)


def _shown(found: Interval, sign: str = "") -> str:
    ends = f"({found.low:{sign}.3f} to {found.high:{sign}.3f})"
    known = np.isfinite(found.low)
    return f"{found.value:{sign}.3f} {ends}" if known else f"{found.value:{sign}.3f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
