"""The charts that compare a job's children, as the state of MLflow's chart page.

By itself the page shows a bar chart for each metric, in the order of their names.
Metrics without a card here still get one, in a section below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SECTION = "comparison"
_BARS = 30  # more are too thin to read
_ALL, _FIRST = "SHOW_ALL", "FIRST_20_RUNS"


@dataclass(frozen=True)
class Charts:
    """What the charts of a runs table show.

    Attributes:
        title: of their section.
        settings: params, from left to right, of the lines from settings to results; a
            run that lacks one has no line.
        results: two metrics: the one that chooses and the one that is tested. They are
            the lines' ends and the axes of a scatter plot.
        bars: metrics with a bar chart.
        hidden: metrics that need none.
        runs: number of runs.
    """

    title: str
    settings: Sequence[str]
    results: tuple[str, str]
    bars: Sequence[str]
    hidden: Sequence[str]
    runs: int


def chart_state(charts: Charts) -> dict[str, Any]:
    """Keys of the page's state."""
    chooses, tested = charts.results
    axes = {"xaxis": _axis(chooses), "yaxis": _axis(tested)}
    lines = {
        "selectedParams": list(charts.settings),
        "selectedMetrics": [chooses, tested],
        "showAllRuns": True,
    }
    cards = [
        _card("PARALLEL", "settings", **lines),
        _card("SCATTER", "scatter", **axes),
    ]
    cards += [_card("BAR", name, metricKey=name) for name in charts.bars]
    # A deleted card keeps the page from making one of its own.
    gone = {"deleted": True, "isGenerated": True}
    cards += [_card("BAR", name, metricKey=name, **gone) for name in charts.hidden]
    section = {"uuid": _SECTION, "name": charts.title, "display": True}
    return {
        "compareRunCharts": cards,
        "compareRunSections": [{**section, "isReordered": True}],
        "isAccordionReordered": True,
        "runsHiddenMode": _ALL if charts.runs <= _BARS else _FIRST,
    }


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}


def _card(kind: str, name: str, **keys: Any) -> dict[str, Any]:
    usual = {"deleted": False, "isGenerated": False, "runsCountToCompare": _BARS}
    place = {"type": kind, "uuid": f"{_SECTION}-{name}", "metricSectionId": _SECTION}
    return {**usual, **place, **keys}
