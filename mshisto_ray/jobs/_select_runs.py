"""The MLflow runs of a comparison of encoders: one of all, and one of each under it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray.jobs._select_config import SUMMARY, SelectConfig
from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.encoder_ranking import EncoderFacts
from mshisto_ray.tile_classification.ranking import rank
from mshisto_ray.tracking import RunsView, Store, describe, save_view

ByProbe = Mapping[str, Mapping[str, TileMetrics]]


def log_comparison(
    config: SelectConfig,
    by_probe: ByProbe,
    facts: Mapping[str, EncoderFacts],
    files: Sequence[Path],
    answer: str,
) -> list[str]:
    """Log a run for the comparison with its files, and one of each encoder under it.

    Args:
        config: of the job.
        by_probe: scores of each encoder by each probe; the first one ranks.
        facts: of each encoder.
        files: artifacts of the comparison.
        answer: which encoder, in a sentence; above the summary in its description.

    Returns:
        How to look at them: lines to print.
    """
    store = config.runtime.open_store(config.out)
    params = config.model_dump(mode="json", exclude={"runtime", "out"})
    parent = store.log_run(config.out.name, params, {}, {}, files)
    for name, own in facts.items():
        metrics = _cost(own) | _places(by_probe, name, config.metric)
        for probe, scores in by_probe.items():
            metrics |= _scores(probe, scores[name])
        known = {
            "encoder": name,
            "engine": own.engine or "not known",
            "licence": own.licence or "not known",
        }
        store.log_run(name, known, metrics, {}, [], parent)
    return _shown(config, by_probe, store, parent, answer)


def _cost(own: EncoderFacts) -> dict[str, float]:
    found = {"width": float(own.width), "bytes_a_tile": float(own.bytes_a_tile)}
    if math.isfinite(own.images_per_second):
        found["images_per_second"] = own.images_per_second
    return found


def _places(by_probe: ByProbe, name: str, metric: str) -> dict[str, float]:
    """Group and paired difference from the best, by each probe."""
    found: dict[str, float] = {}
    for probe, scores in by_probe.items():
        (own,) = (row for row in rank(scores, metric) if row.name == name)
        found[f"{probe}_group"] = float(own.group)
        behind = own.difference
        if behind:
            key = f"{probe}_from_the_best"
            ends = {"": behind.value, "_ci_low": behind.low, "_ci_high": behind.high}
            found |= {f"{key}{e}": v for e, v in ends.items() if math.isfinite(v)}
    return found


def _scores(probe: str, scores: TileMetrics) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in scores.values:
        interval, key = scores.interval(metric), f"{probe}_{metric}"
        found |= {key: interval.value, f"{key}_ci_low": interval.low,
                  f"{key}_ci_high": interval.high}  # fmt: skip
    inside = {m: v for m, v in scores.of_folds.items() if math.isfinite(v)}
    return found | {f"{probe}_{m}_of_folds": v for m, v in inside.items()}


def _shown(
    config: SelectConfig, by_probe: ByProbe, store: Store, parent: str, answer: str
) -> list[str]:
    """Make the page of the runs and the description; return what to print."""
    main, *others = by_probe
    chooses = f"{main}_{config.metric}"
    metrics = [f"{main}_group", chooses, f"{main}_from_the_best"]
    metrics += [f"{probe}_{config.metric}" for probe in others]
    metrics += ["bytes_a_tile", "images_per_second"]
    columns = [f"metrics.`{name}`" for name in metrics]
    columns += ["params.`engine`", "params.`licence`"]
    page = save_view(store, RunsView(parent, columns, f"metrics.`{chooses}`"))
    summary = (config.out / SUMMARY).read_text()
    link = f"[All encoders, the best first]({page})."
    describe(store, parent, f"{answer} {link}\n\n{summary}")
    return [
        store.view_command(),
        f"all encoders, the best first: {store.address(page)}",
    ]
