"""The table of the study of TCGA: a row for each cancer and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mshisto_ray.studies import _study
from mshisto_ray.studies._study import UnitResult
from mshisto_ray.studies._tcga_cohort import Task

_CHANCE = {"c_index": 0.5, "auroc": 0.5, "r2": 0.0, "kappa": 0.0}


def render(
    rows: Mapping[tuple[str, str], Task],
    done: Mapping[tuple[str, str], Sequence[UnitResult | None]],
    points: Sequence[str],
    splits: Sequence[str],
) -> str:
    """Markdown; cells without a result are empty.

    Args:
        rows: the task of each cancer and name.
        done: of the same, the results by ``splits``, None where there is none.
        points: names of those that each fold chooses among.
        splits: ways to draw folds.
    """
    header = ["cancer", "target", "patients", "metric"]
    header += [f"folds by {split}" for split in splits]
    header += ["most chosen", "learned"]
    lines = []
    for place, task in rows.items():
        lines.append([*place, str(task.patients), *_cells(done[place], points)])
    return _study.markdown(header, lines)


def render_survival(
    done: Mapping[tuple[str, str], Sequence[UnitResult | None]], splits: Sequence[str]
) -> str:
    """Markdown of every metric of survival; empty where no result has them.

    Arguments as of ``render``.
    """
    lines, titles = [], {}
    for (cancer, _), results in done.items():
        for split, result in zip(splits, results, strict=True):
            if result is None or not result.predictions.models:
                continue
            kind, found = result.predictions.kind, _study.measure([result])
            titles = {name: kind.titles[name] for name in found}
            cells = [_study.cell(found[name]) for name in titles]
            lines.append([cancer, split, *cells])
    if not lines:
        return ""
    return _study.markdown(["cancer", "folds by", *titles.values()], lines)


def _cells(pair: Sequence[UnitResult | None], points: Sequence[str]) -> list[str]:
    first = next((result for result in pair if result), None)
    if first is None:
        return ["", *("" for _ in pair), "", ""]
    metric = first.predictions.kind.chooses
    cells, learned, counts = [], [], dict.fromkeys(points, 0.0)
    for result in pair:
        if result is None:
            cells.append("")
            continue
        value = _study.measure([result])[metric]
        cells.append(_study.cell(value))
        learned.append("yes" if value.low > _CHANCE.get(metric, 0.0) else "no")
        for name in counts:
            counts[name] += result.extras[f"chosen {name}"]
    most = max(counts, key=lambda name: counts[name])
    return [metric, *cells, most, ", ".join(learned)]
