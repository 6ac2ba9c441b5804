"""What a prediction prints, keeps in MLflow and writes into summary.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.jobs._decisions import DECISIONS
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.result import PredictionSummary
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.progress import say
from mshisto_ray.reporting.decisions import (
    decision_section,
    markdown_table,
    save_decisions,
    verdicts,
)
from mshisto_ray.reporting.drift import about_drift
from mshisto_ray.reporting.page.performance import show_interval
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.manifest import write_text

SUMMARY = "summary.md"

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


def say_metrics(outcome: PredictionSummary, whose: str) -> dict[str, float]:
    """Print metrics, drift and subgroups; return what MLflow keeps of them."""
    logged: dict[str, float] = {}
    for name, interval in outcome.metrics.items():
        if math.isnan(interval.value):
            continue  # named in a note
        say(f"  {whose} {name}: {interval.value:.3f} [{interval.low:.3f}, "
            f"{interval.high:.3f}]")  # fmt: skip
        key = f"{whose.replace('-', '_')}_{name}"
        logged |= {
            key: interval.value,
            f"{key}_ci_low": interval.low,
            f"{key}_ci_high": interval.high,
        }
    if outcome.decisions:
        each = {**outcome.decisions.shares, **outcome.decisions.errors}
        known = {k: v.value for k, v in each.items() if not math.isnan(v.value)}
        logged |= {f"decision_{name}": value for name, value in known.items()}
    if outcome.drift:
        say(f"  {about_drift(outcome.drift)}")
        logged |= {"drift_p": outcome.drift.cohort, "drift_apart": outcome.drift.apart}
    for group in outcome.subgroups:
        say(f"  {group.line}")
    return logged


def write_summary(
    out: Path,
    head: Head,
    outcome: PredictionSummary,
    bags: list[Bag],
    whose: str,
    notes: list[str],
) -> list[Path]:
    """Write summary.md and the picture of decisions; return their paths."""
    seen = sum(bag.patient_id in head.folds for bag in bags)
    for line in about_decisions(head, outcome, seen):
        say(f"  {line}")
    path, picture = out / SUMMARY, out / DECISIONS
    write_text(path, summary(head, outcome, whose, notes, seen))
    if outcome.decisions is None:
        picture.unlink(missing_ok=True)
        return [path]
    save_decisions(picture, outcome.decisions)
    return [path, picture]
