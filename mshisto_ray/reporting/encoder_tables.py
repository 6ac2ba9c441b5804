"""Tables of encoders: their ranking by each probe, few tiles, sites, a second task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.decisions import markdown_table
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.tile_classification.ranking import rank
from mshisto_ray.tile_classification.sites import Robustness


@dataclass(frozen=True)
class EncoderTable:
    """A table with its title, and the text before it; ``name``: without spaces."""

    name: str
    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> list[str]:
        """Lines, the first one empty."""
        head = ["", f"## {self.title}", ""]
        text = [self.text, ""] if self.text else []
        return [*head, *text, *markdown_table([self.header, *self.rows])]


def few_shot_table(
    scores: Mapping[str, Mapping[int, TileMetrics]], metric: str, draws: int
) -> EncoderTable:
    """A row an encoder, a column a number of tiles a class."""
    shots = list(next(iter(scores.values())))
    rows = [
        [name, *(show(own[k].interval(metric)) for k in shots)]
        for name, own in scores.items()
    ]
    heads = ["encoder", *(f"{k} a class" for k in shots)]
    text = f"SimpleShot, {metric}, mean over {draws} draws of tiles."
    return EncoderTable("few", "Few tiles", text, heads, rows)


def site_table(
    found: Mapping[str, Robustness],
    known: Mapping[str, TileMetrics],
    metric: str,
    probe: str,
) -> EncoderTable:
    """How far encoders follow classes, and how far sites.

    Args:
        found: of each encoder.
        known: metrics of ``probe`` with tiles of all sites in training.
        metric: of the probe.
        probe: its name.
    """
    rows = []
    for name, own in found.items():
        cells = [name, show(own.index), show(own.paired), f"{own.clustering:+.3f}"]
        cells += [show(known[name].interval(metric)), "", ""]
        if own.left_out:
            cells[5] = show(own.left_out.interval(metric))
            cells[6] = show(_drop(known[name], own.left_out, metric), "+")
        rows.append(cells)
    heads = ["encoder", "robustness index", "in pairs", "clustering score",
             "sites in training", "sites left out", "drop"]  # fmt: skip
    text = (
        "Robustness index: of the 50 nearest tiles of other patients those of the same "
        "class and another site, out of these and those of another class and the same "
        "site (1: the class decides, 0: the site). In pairs: the same among the tiles "
        "of two classes and two sites at a time that have all four combinations, which "
        "a class that one site alone has does not raise. Clustering score: agreement "
        f"of clusters with classes less that with sites. The last three: {metric} of "
        f"{probe}, cross-validated over all sites, and on sites that it did not learn "
        "from; the drop is paired on the same patients."
    )
    return EncoderTable("sites", "Sites", text, heads, rows)


def second_table(
    first: Mapping[str, TileMetrics], second: Mapping[str, TileMetrics], metric: str
) -> EncoderTable:
    """Whether the ranking of a task holds on another."""
    from scipy.stats import kendalltau  # takes a second to import

    places = {row.name: row for row in rank(first, metric)}
    others = {row.name: row for row in rank(second, metric)}
    rows = [
        [name, show(row.score), str(row.group), show(others[name].score),
         str(others[name].group)]
        for name, row in places.items()
    ]  # fmt: skip
    heads = ["encoder", metric, "group", f"{metric}, second task", "group"]
    values = [[scores[name].values[metric] for name in places] for scores in
              (first, second)]  # fmt: skip
    tau = float(kendalltau(*values)[0]) if len(places) > 1 else np.nan  # pyright: ignore[reportArgumentType]
    agree = f"{tau:.2f}" if np.isfinite(tau) else "not defined, a task ranks none"
    best = next(iter(places))
    holds = "is" if others[best].group == 1 else "is not"
    text = (
        f"Kendall's tau of the two rankings: {agree}. The best of the first, {best}, "
        f"{holds} among those that cannot be told apart from the best of the second."
    )
    return EncoderTable("second", "A second task", text, heads, rows)


def show(found: Interval, sign: str = "") -> str:
    """``0.912 (0.850 to 0.951)``; the value alone where there is no interval."""
    if not np.isfinite(found.value):
        return ""
    ends = f"({found.low:{sign}.3f} to {found.high:{sign}.3f})"
    known = np.isfinite(found.low)
    return f"{found.value:{sign}.3f} {ends}" if known else f"{found.value:{sign}.3f}"


def _drop(known: TileMetrics, left_out: TileMetrics, metric: str) -> Interval:
    value = known.values[metric] - left_out.values[metric]
    one, other = known.replicates[metric], left_out.replicates[metric]
    if len(one) != len(other):
        return Interval(value, np.nan, np.nan)
    return percentile_interval(value, one - other)
