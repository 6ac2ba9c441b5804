"""The rows of Tan 2023's tables, and the tables themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mshisto_ray.learning.comparison import compare
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import UnitResult
from mshisto_ray.studies._tan2023_caption import caption

Scales = tuple[float, ...]
Row = Literal["single", "conventional", "shared", "shared_msa", "shared_msa_all"]
ALL_ROWS: tuple[Row, ...] = (
    "single", "conventional", "shared", "shared_msa", "shared_msa_all",
)  # fmt: skip
CROSS_SCALE = "cross_scale"
# Number of a unit: parameters of its encoders.
ENCODER_SIZE = "encoder_parameters"
# Number of a unit: share of its models that learned their training slides.
TRAINED = "trained"


@dataclass(frozen=True)
class TableRow:
    """A row of the paper's tables.

    ``key``: of ``study.rows``; ``folder``: of embeddings, where ``{mpp}`` stands for
    the scale; ``published``: accuracy on whole slides and on the annotated tumour, by
    level.
    """

    key: Row
    name: str
    folder: str
    combine: Mapping[str, Any]
    published: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


ROWS = (
    TableRow("single", "single scale", "imagenet", {"name": "single"},
             ((".6364", ".5879", ".5669"), (".7250", ".7441", ".7086"))),
    TableRow("conventional", "conventional MS", "scale_{mpp}", {"name": "concat"},
             ((".6081", ".5915"), (".7398", ".7200"))),
    TableRow("shared", "MS + CL", "shared", {"name": "concat"},
             ((".5882", ".6250"), (".7331", ".7026"))),
    TableRow("shared_msa", "MS + CL + MSA", "shared", {"name": CROSS_SCALE},
             ((".6415", ".5993"), (".7715", ".7166"))),
    # The paper's future work.
    TableRow("shared_msa_all", "MS + CL + MSA, all scales", "shared",
             {"name": CROSS_SCALE}),
)  # fmt: skip


def levels_of(settings: Mapping[str, Any]) -> dict[str, list[Scales]]:
    """Scales (coarsest first) of each cell of the wanted rows, by the row's name."""
    scales: Sequence[float] = settings["scales"]
    wanted = settings["levels"]
    single = [(mpp,) for mpp in scales]
    pairs = list(zip(scales[1:], scales[:-1], strict=True))
    whole = [tuple(reversed(scales))] if len(scales) > 2 else []
    kinds = {"single": single, "shared_msa_all": whole}
    return {
        row.name: [
            cell
            for level, cell in enumerate(kinds.get(row.key, pairs))
            if wanted is None or level in wanted
        ]
        for row in ROWS
        if row.key in settings["rows"]
    }


def unit_name(
    row: TableRow, scales: Scales, repeat: int, fold: int | None = None
) -> str:
    """A file's stem: the row, its scales, coarsest first, the repeat and the fold."""
    name = row.name.lower().replace(" + ", "-").replace(", ", "-").replace(" ", "-")
    end = "" if fold is None else f"-fold{fold}"
    return f"{name}-{'+'.join(f'{mpp:g}' for mpp in scales)}-{repeat}{end}"


def render(
    settings: Mapping[str, Any],
    levels: Mapping[str, Sequence[Scales]],
    there: Mapping[tuple[str, Scales], Sequence[int | None]],
    has_area: bool,
    done: Mapping[str, UnitResult],
) -> str:
    """Markdown of both tables.

    Args:
        settings: of the study.
        levels: scales of each cell of a row, by the row's name.
        there: folds of encoders of the rows and scales that have embeddings.
        has_area: whether models were tested on the annotated area too.
        done: results by ``unit_name``.
    """
    parts = []
    rows = [row for row in ROWS if row.name in levels]
    single = [row for row in rows if row.key == "single"]
    for group in (single, [row for row in rows if row.key != "single"]):
        columns = sorted(
            {scales for row in group for scales in levels[row.name]},
            key=lambda scales: (len(scales), scales[-1]),
        )
        for of_area in (False, True) if has_area else (False,):
            if group and columns:
                view = _View(settings, levels, there, done, of_area)
                parts.append(view.table(group, columns))
    return "\n".join([*parts, caption(settings, has_area)])


@dataclass(frozen=True)
class _View:
    """What a table shows: whole slides or the annotated area."""

    settings: Mapping[str, Any]
    levels: Mapping[str, Sequence[Scales]]
    there: Mapping[tuple[str, Scales], Sequence[int | None]]
    done: Mapping[str, UnitResult]
    of_area: bool

    def table(self, rows: Sequence[TableRow], columns: Sequence[Scales]) -> str:
        area = "annotated area" if self.of_area else "whole slides"
        header = [area, *map(self._level, columns), "encoders, parameters"]
        lines, above = [], None
        for row in rows:
            found = [self._results(row, scales) for scales in columns]
            for metric in ("accuracy", "auroc"):
                cells = [
                    self._cell(row, scales, units, metric)
                    for scales, units in zip(columns, found, strict=True)
                ]
                lines.append([f"{row.name}, {metric}", *cells, _encoders(found)])
            cells = [self._above_chance(row, scales) for scales in columns]
            if any(cells):
                lines.append([f"{row.name}, repeats above chance", *cells, ""])
            cells = [_trained(units) for units in found]
            if any(cells) and not self.of_area:
                lines.append([f"{row.name}, models trained", *cells, ""])
            if any(row.published):
                published = [self._published(row, scales) for scales in columns]
                lines.append([f"{row.name}, published accuracy", *published, ""])
            if above:
                gains = [self._gain(*pair) for pair in zip(above, found, strict=True)]
                name = f"{row.name}, gain in accuracy on the row above"
                if any(gains) or row.published[0]:
                    lines.append([name, *gains, ""])
            above = found
        return _study.markdown(header, lines)

    def _level(self, scales: Scales) -> str:
        """``Level 0``, or the levels that are joined, as ``Level (1+0)``."""
        known = list(self.settings["scales"])
        names = [str(known.index(mpp)) for mpp in scales]
        return f"Level {names[0]}" if len(names) == 1 else f"Level ({'+'.join(names)})"

    def _published(self, row: TableRow, scales: Scales) -> str:
        values = row.published[self.of_area]
        level = self.settings["scales"].index(scales[-1])
        has = scales in self.levels[row.name] and level < len(values)
        return values[level] if has else ""

    def _names(self, row: TableRow, scales: Scales) -> list[str]:
        folds = self.there.get((row.name, scales), ())
        repeats = range(self.settings["repeats"])
        return [unit_name(row, scales, r, fold) for r in repeats for fold in folds]

    def _results(self, row: TableRow, scales: Scales) -> list[UnitResult]:
        names = self._names(row, scales)
        return [self.done[name] for name in names if name in self.done]

    def _above_chance(self, row: TableRow, scales: Scales) -> str:
        """Repeats whose own AUROC has an interval above .5, of those that are done."""
        folds = self.there.get((row.name, scales), ())
        repeats = []
        for repeat in range(self.settings["repeats"]):
            names = [unit_name(row, scales, repeat, fold) for fold in folds]
            units = [self.done[name] for name in names if name in self.done]
            shown = self._shown(units)
            if shown and len(units) == len(names):
                repeats.append(_study.measure(shown)["auroc"].low > 0.5)
        if len(repeats) < 2 or scales not in self.levels[row.name]:
            return ""
        return f"{sum(repeats)} of {len(repeats)} ({np.mean(repeats):.0%})"

    def _cell(
        self, row: TableRow, scales: Scales, units: Sequence[UnitResult], metric: str
    ) -> str:
        if scales not in self.levels[row.name]:
            return ""
        wanted = len(self._names(row, scales))
        if not wanted:
            return "no embeddings"
        if not units:
            return ""
        note = "" if len(units) == wanted else f" [{len(units)} of {wanted}]"
        shown = self._shown(units)
        if not shown:
            return f"no annotated tiles (n = 0){note}"
        if self.of_area:
            slides = {bag for unit in shown for bag in unit.predictions.bag}
            note = f", n = {len(slides)}{note}"
        return _study.cell(_study.measure(shown)[metric]) + note

    def _shown(self, units: Sequence[UnitResult]) -> list[UnitResult]:
        """Results of the area, of those that have any, or of whole slides."""
        if not self.of_area:
            return list(units)
        return [UnitResult(unit.area, unit.extras) for unit in units if unit.area]

    def _gain(self, above: Sequence[UnitResult], own: Sequence[UnitResult]) -> str:
        """Paired difference, where both rows have as many repeats."""
        first, second = self._shown(own), self._shown(above)
        if not first or len(first) != len(second):
            return ""
        parts = _study.merge(first), _study.merge(second)
        return _study.cell(compare(*parts, metric="accuracy").difference)


def _trained(units: Sequence[UnitResult]) -> str:
    """Share of the models that learned their training slides, as ``100%``."""
    shares = [unit.extras.get(TRAINED, math.nan) for unit in units]
    known = [share for share in shares if share == share]
    return f"{np.mean(known):.0%}" if known else ""


def _encoders(found: Sequence[Sequence[UnitResult]]) -> str:
    """Parameters of a row's encoders, as ``49.6M``; several where levels differ."""
    sizes = []
    for units in found:
        known = {unit.extras.get(ENCODER_SIZE, math.nan) for unit in units}
        sizes += [f"{size / 1e6:.1f}M" for size in known if size == size]
    return ", ".join(dict.fromkeys(sizes))
