"""The rows of Tan 2023's tables, and the tables themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mshisto_ray.learning.comparison import compare
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import UnitResult

Scales = tuple[float, ...]


@dataclass(frozen=True)
class TableRow:
    """A row of the paper's tables.

    ``folder``: of embeddings, where ``{mpp}`` stands for the scale.
    """

    name: str
    folder: str
    combine: Mapping[str, Any]


SINGLE = TableRow("single scale", "imagenet", {"name": "single"})
_MSA = {"name": "cross_scale", "width": 2048, "heads": 4, "head_dim": 128}
SEVERAL = (
    TableRow("conventional MS", "scale_{mpp}", {"name": "concat"}),
    TableRow("MS + CL", "shared", {"name": "concat"}),
    TableRow("MS + CL + MSA", "shared", _MSA),
)
# Accuracy by level, on whole slides and on the annotated tumour.
_PUBLISHED = {
    "single scale": ((".6364", ".5879", ".5669"), (".7250", ".7441", ".7086")),
    "conventional MS": ((".6081", ".5915"), (".7398", ".7200")),
    "MS + CL": ((".5882", ".6250"), (".7331", ".7026")),
    "MS + CL + MSA": ((".6415", ".5993"), (".7715", ".7166")),
}


def unit_name(row: TableRow, scales: Scales, repeat: int) -> str:
    """A file's stem: the row, its scales, coarsest first, and the repeat."""
    name = row.name.lower().replace(" + ", "-").replace(" ", "-")
    return f"{name}-{'+'.join(f'{mpp:g}' for mpp in scales)}-{repeat}"


def render(
    settings: Mapping[str, Any],
    levels: Mapping[str, Sequence[Scales]],
    absent: Collection[tuple[str, Scales]],
    has_area: bool,
    done: Mapping[str, UnitResult],
) -> str:
    """Markdown of both tables.

    Args:
        settings: of the study.
        levels: scales of each cell of a row, by the row's name.
        absent: rows and scales without embeddings.
        has_area: whether models were tested on the annotated area too.
        done: results by ``unit_name``.
    """
    num = len(settings["scales"])
    single = [f"Level {i}" for i in range(num)]
    several = [f"Level ({i + 1}+{i})" for i in range(num - 1)]
    areas = ("whole slides", "annotated area") if has_area else ("whole slides",)
    parts = []
    for header, rows in ((single, [SINGLE]), (several, SEVERAL)):
        for place, area in enumerate(areas):
            lines, above = [], None
            for row in rows:
                found = [
                    _results(row, scales, settings["repeats"], done, place == 1)
                    for scales in levels[row.name]
                ]
                gone = [(row.name, scales) in absent for scales in levels[row.name]]
                lines += _lines(row, found, gone, settings["repeats"])
                published = [*_PUBLISHED[row.name][place], *[""] * num][: len(header)]
                lines.append([f"{row.name}, published accuracy", *published])
                if above:
                    name = f"{row.name}, gain in accuracy on the row above"
                    lines.append([name, *map(_gain, above, found)])
                above = found
            parts.append(_study.markdown([area, *header], lines))
    return "\n".join([*parts, _caption(settings, has_area)])


def _lines(
    row: TableRow,
    found: Sequence[Sequence[UnitResult]],
    is_absent: Sequence[bool],
    repeats: int,
) -> list[list[str]]:
    return [
        [f"{row.name}, {metric}"]
        + [
            "no embeddings" if absent else _cell(cell, metric, repeats)
            for absent, cell in zip(is_absent, found, strict=True)
        ]
        for metric in ("accuracy", "auroc")
    ]


def _results(
    row: TableRow,
    scales: Scales,
    repeats: int,
    done: Mapping[str, UnitResult],
    of_area: bool,
) -> list[UnitResult]:
    names = [unit_name(row, scales, repeat) for repeat in range(repeats)]
    found = [done[name] for name in names if name in done]
    if of_area:
        found = [UnitResult(unit.area, {}) for unit in found if unit.area]
    return found


def _cell(found: Sequence[UnitResult], metric: str, repeats: int) -> str:
    if not found:
        return ""
    note = "" if len(found) == repeats else f" [{len(found)}]"
    return _study.cell(_study.measure(found)[metric]) + note


def _gain(above: Sequence[UnitResult], own: Sequence[UnitResult]) -> str:
    """Paired difference, where both rows have as many repeats."""
    if not own or len(own) != len(above):
        return ""
    parts = _study.merge(own), _study.merge(above)
    return _study.cell(compare(*parts, metric="accuracy").difference)


def _caption(settings: Mapping[str, Any], has_area: bool) -> str:
    area = (
        "Annotated area: the same models on test slides' tiles of "
        f"{settings['annotation']!r} (at least {settings['min_annotated']:g} of each "
        "inside it), slides that have any. "
    )
    return (
        "Published: intrahepatic cholangiocarcinoma, 332 slides, not these. Level "
        f"0 is {settings['scales'][0]:g} um/px. 50 random bags of 100 tiles of each "
        "slide, majority vote; mean, two ReLU layers of 512 (the second of the paper "
        f"has no ReLU), softmax; SGD, lr {settings['lr']:g}, momentum 0.9 (the paper "
        f"gives none), {settings['epochs']} epochs; {settings['folds']} folds by "
        f"patient, {settings['repeats']} repeats, 95 % score intervals over patients, "
        f"gains paired. {area if has_area else ''}An encoder pretrained with these "
        "slides' labels has seen what it is tested on: scale_* and shared should come "
        "from other patients.\n"
    )
