"""The runs table and charts of a sweep in MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mshisto_ray.jobs._sweep_verdict import DIFFERENCE, RANK, P
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.targets import Target
from mshisto_ray.tracking import Charts, RunsView

_MAX_PARAMS = 4  # columns of the runs table
_TITLE = "Which config, and is it better than the next?"


def runs_view(
    parent: str,
    points: Mapping[str, Point],
    names: Iterable[str],
    params: Sequence[Mapping[str, str]],
    target: Target,
    select: str | None,
) -> RunsView:
    """Columns from the metric that chooses to the settings, and charts beside them.

    Args:
        parent: run of the sweep.
        points: by digest.
        names: of the runs.
        params: of the runs.
        target: that they predict.
        select: metric that chooses; None: nothing is chosen.
    """
    metric = select or target.chooses
    results = f"val_{metric}", f"test_{metric}"
    compared = (DIFFERENCE, P) if select else ()
    others: list[str] = []
    if target.references:  # levels to read others against, beside them
        others = [f"test_{name}" for name in target.shown if name != metric]
    keys = _settings(points, params)
    columns = [f"metrics.`{name}`" for name in (*results, *compared)]
    columns += ["tags.`verdict`"] if select else []
    columns += [f"params.`{key}`" for key in keys[:_MAX_PARAMS]]
    columns += [f"metrics.`{name}`" for name in others]
    everywhere = [key for key in keys if all(key in found for found in params)]
    charts = Charts(_TITLE, everywhere, results, compared[:1], [RANK], len(points))
    longest = max(map(len, names))
    return RunsView(parent, columns, f"metrics.`{RANK}`", True, longest, charts)


def _settings(
    points: Mapping[str, Point], params: Sequence[Mapping[str, str]]
) -> list[str]:
    """Keys in which points differ: each axis, then the parameters of its parts.

    Two values of an axis that are the same part differ in its parameters alone.
    """
    axes = dict.fromkeys(key for point in points.values() for key in point.values)
    known = dict.fromkeys(key for found in params for key in found)
    keys: dict[str, None] = {}
    for axis in axes:
        keys |= dict.fromkeys(k for k in known if k == axis or k.startswith(f"{axis}."))
    return list(keys)
