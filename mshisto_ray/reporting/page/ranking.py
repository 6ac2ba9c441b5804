"""A sweep on the page: the tables of ``sweep_tables``, nothing computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.decision.examination import Examination
from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.retraining.learning_curve import LearningCurve
from mshisto_ray.learning.retraining.permuted import PermutedChoice
from mshisto_ray.learning.retraining.refits import RefitInterval, about_refits
from mshisto_ray.learning.sweep.nested_choice import NestedChoice
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.reporting import sweep_summary, sweep_tables
from mshisto_ray.reporting.learning_curve import (
    about_curve,
    about_permuted,
    curve_table,
)
from mshisto_ray.reporting.page.blocks import (
    Block,
    Figure,
    Figures,
    Items,
    Section,
    Table,
    Text,
)
from mshisto_ray.reporting.page.images import photograph
from mshisto_ray.statistics.bootstrap import Interval

_ENDS = ("mean", "ci_low", "ci_high")


@dataclass(frozen=True)
class SweepRanking:
    """A finished sweep.

    ``ranked``, ``failed``, ``select``, ``compared``, ``nested``: as of
    ``sweep_summary.summary``;
    ``plot``: the picture that ``sweep_plot.plot`` wrote; ``decisions``: of the
    chosen config, out of fold; ``refits``: the interval that includes training;
    ``curve``: of the chosen config; ``permuted``: choices on exchanged labels;
    ``pruned``, ``not_run``: configs without a result; ``not_suggested``: points that a
    search was still to suggest;
    ``noise_plot``: the picture that ``noise_curve.plot_noise`` wrote, if it did.
    """

    ranked: Sequence[PointResult]
    failed: Sequence[PointResult]
    select: str | None
    compared: Mapping[str, Comparison]
    plot: Path
    nested: NestedChoice | None = None
    decisions: Examination | None = None
    refits: RefitInterval | None = None
    pruned: Sequence[PointResult] = ()
    not_run: Sequence[PointResult] = ()
    not_suggested: int = 0
    curve: LearningCurve | None = None
    permuted: PermutedChoice | None = None
    noise_plot: Path | None = None

    @property
    def unfinished(self) -> list[tuple[str, list[str]]]:
        """Headings and lines on the configs that have no result."""
        given = self.failed, self.pruned, self.not_run, self.not_suggested
        return sweep_summary.unfinished(*given)

    @property
    def chosen(self) -> PointResult | None:
        """The config that the sweep chose."""
        return self.ranked[0] if self.select and self.ranked else None


def out_of_fold_metrics(outcome: PointResult) -> dict[str, Interval]:
    """Metrics of the out-of-fold predictions, as the sweep has computed them."""
    found = outcome.metrics or {}
    keys = [k.removeprefix("test_") for k in found if k.startswith("test_")]
    names = [k.removesuffix("_mean") for k in keys if k.endswith("_mean")]
    return {
        name: Interval(*(found[f"test_{name}_{end}"] for end in _ENDS))
        for name in names
    }


def answers(ranking: SweepRanking) -> list[tuple[str, str, str]]:
    """The chosen config, its result, and how many others do as well within error."""
    chosen, num = ranking.chosen, len(ranking.ranked)
    if chosen is None:
        return [("configs compared", str(num), "none was chosen")]
    metric = str(ranking.select)
    found = out_of_fold_metrics(chosen)[metric]
    cards = [
        (
            f"test {chosen.target.titles[metric]} of the chosen config, out of fold",
            f"{found.value:.3f}",
            f"{found.low:.3f} to {found.high:.3f}, 95 % interval over patients",
        ),
        ("chosen config", chosen.point.label, f"of {num}, by val_{metric}"),
    ]
    alike = sum(not sweep_tables.told_apart(c) for c in ranking.compared.values())
    if ranking.compared:
        text = f"{alike} of {num - 1}"
        cards.append(("other configs", text, "cannot be told apart from the chosen"))
    return cards


def ranking_section(ranking: SweepRanking) -> Section:
    """The ranking with intervals and differences; warnings before the numbers."""
    given = (ranking.ranked, ranking.select, ranking.compared)
    blocks: list[Block] = [Text(sweep_summary.about(ranking.ranked, ranking.select))]
    doubtful = [o for o in ranking.ranked if o.warnings]
    if doubtful:
        count = f"{len(doubtful)} of {len(ranking.ranked)} configs"
        text = f"{count} are hardly trained, and their values say little: see below."
        blocks.append(Text(text, "warning"))
    header, *rows = sweep_tables.ranking_table(*given)
    if rows:
        rows[0][0] = rows[0][0].replace(" ", "\N{NO-BREAK SPACE}")
    axes = len(sweep_tables.axes_of(ranking.ranked))
    mark = {0} if ranking.chosen else ()
    words = {*range(axes + 1), len(header) - 1}
    blocks.append(Table(header, rows, marked=mark, text_columns=words))
    *alike, about = sweep_tables.groups(*given) or [""]
    blocks += [Items(alike)] if alike else []
    if ranking.nested:
        text = sweep_summary.about_nested(ranking.nested, str(ranking.select))
        blocks.append(Text(text))
    if ranking.refits:
        blocks.append(Text(about_refits(ranking.refits, str(ranking.select))))
    if ranking.permuted:
        blocks.append(Text(about_permuted(ranking.permuted)))
    blocks += [Text(about, "note")] if about else []
    for outcome in ranking.ranked[:1]:
        target = outcome.target
        blocks += _picture(ranking.plot, target.titles[target.chooses])
    if ranking.noise_plot:
        blocks += _noise_curve(ranking.noise_plot)
    header, *rows = sweep_tables.other_metrics_table(*given)
    words = {0, len(header) - 1}
    blocks.append(Table(header, rows, "Other metrics", marked=mark, text_columns=words))
    pooled = sweep_summary.pooling(ranking.ranked)
    if pooled:
        blocks.append(Items(pooled, sweep_summary.POOLED.rstrip(":")))
    if doubtful:
        lines = sweep_summary.doubts(ranking.ranked)
        blocks.append(Items(lines, sweep_summary.DOUBTFUL.rstrip(":")))
    for heading, lines in ranking.unfinished:
        blocks.append(Items(lines, heading) if lines else Text(heading))
    return Section("ranking", "Ranking of the configs", blocks)


def curve_blocks(curve: LearningCurve, plot: Path) -> list[Block]:
    """The learning curve: what it says, its table, its picture."""
    header, *rows = curve_table(curve)
    blocks: list[Block] = [Text(about_curve(curve)), Table(header, rows)]
    if not plot.is_file():
        return blocks
    what = f"Test {curve.metric} against the number of patients to learn from"
    return [*blocks, Figures([Figure(photograph(plot, 640), what, f"{what}.")])]


def _picture(plot: Path, name: str) -> list[Block]:
    if not plot.is_file():
        return []
    what = (
        f"Test {name} of every config with its interval, the best on validation on top"
    )
    return [Figures([Figure(photograph(plot, 1280), what, f"{what}.")])]


def _noise_curve(plot: Path) -> list[Block]:
    if not plot.is_file():
        return []
    what = "Validation and test against the level of feature noise"
    return [Figures([Figure(photograph(plot, 1280), what, f"{what}.")])]
