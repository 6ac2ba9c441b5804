"""summary.md of a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.result import PredictionSummary
from mshisto_ray.reporting.decisions import (
    decision_section,
    markdown_table,
    verdicts,
)
from mshisto_ray.reporting.drift import about_drift
from mshisto_ray.reporting.page.performance import show_interval
from mshisto_ray.statistics.bootstrap import Interval

_FROZEN = (
    "Calibration, threshold and sets are those of the head, fitted on {num} validation "
    "patients of its training; nothing was fitted here."
)
_KNOWN = (
    "{num} of the bags are of patients of training, which the calibration, threshold "
    "and sets have seen: on those they do better than on new ones."
)


def about_decisions(head: Head, outcome: PredictionSummary, seen: int) -> list[str]:
    """What the decisions were fitted on, and whether they hold here.

    ``seen``: labelled bags of patients that the head was trained on.
    """
    decision = head.decision
    if outcome.decisions is None or decision is None:
        return []
    lines = []
    if decision.config.is_fitted:
        lines.append(_FROZEN.format(num=decision.fitted_on))
        lines += [_KNOWN.format(num=seen)] if seen else []
    return [*lines, *verdicts(outcome.decisions, decision.config)]


def summary(
    head: Head, outcome: PredictionSummary, whose: str, notes: Sequence[str], seen: int
) -> str:
    """Markdown: counts, drift, metrics, decisions, notes.

    ``whose``: ``external`` or ``out-of-fold``; ``seen``: as of ``about_decisions``.
    """
    lines = [
        f"# Predictions of {head.kind.title}",
        "",
        f"{outcome.num_predicted} bags predicted, {outcome.num_labelled} with a label.",
    ]
    if outcome.drift:
        lines += ["", about_drift(outcome.drift)]
    if outcome.metrics:
        lines += ["", f"## Metrics, {whose}", "", *_metrics(head, outcome.metrics)]
    text = "\n".join(lines) + "\n"
    if outcome.decisions:
        config = head.decision.config if head.decision else DecisionConfig()
        about = about_decisions(head, outcome, seen)
        text += decision_section(outcome.decisions, config, about)
    if notes:
        text += "\n".join(["", "## Notes", "", *(f"- {n}" for n in notes)]) + "\n"
    return text


def _metrics(head: Head, metrics: Mapping[str, Interval]) -> list[str]:
    rows = [
        [head.kind.titles.get(name, name), show_interval(found)]
        for name, found in metrics.items()
        if not math.isnan(found.value)
    ]
    return markdown_table([["metric", "value (95 % interval)"], *rows])
