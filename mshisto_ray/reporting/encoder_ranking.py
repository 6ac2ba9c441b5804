"""Encoders compared: a row of scores each, and a page of the ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.ranking import Ranked, rank

_SHOWN = ("balanced_accuracy", "kappa", "weighted_f1", "auroc")
_FEW_GROUPS = 10


@dataclass(frozen=True)
class EncoderFacts:
    """Width of an encoder's embeddings, and its speed: NaN where it did not run."""

    width: int
    images_per_second: float


def score_row(
    encoder: str, probe: str, facts: EncoderFacts, found: TileMetrics, seconds: float
) -> dict[str, Any]:
    """The scores of one encoder by one probe, with their intervals, as text.

    ``seconds``: that the probe took.
    """
    rate = f"{facts.images_per_second:.1f}"
    row: dict[str, Any] = {"encoder": encoder, "probe": probe, "dim": facts.width}
    row |= {"images_per_second": rate, "probe_seconds": f"{seconds:.2f}"}
    for name in found.values:
        interval = found.interval(name)
        row[name] = f"{interval.value:.4f}"
        row[f"{name}_low"], row[f"{name}_high"] = (
            f"{end:.4f}" for end in (interval.low, interval.high)
        )
    return row


def summary(
    samples: TileSamples,
    by_probe: Mapping[str, Mapping[str, TileMetrics]],
    facts: Mapping[str, EncoderFacts],
    metric: str,
) -> str:
    """Markdown: a table per probe, encoders ranked by ``metric``.

    Args:
        samples: the tiles that all were scored on.
        by_probe: scores of each encoder by each probe.
        facts: of each encoder.
        metric: that ranks.
    """
    groups = len(samples.groups)
    lines = [
        "# Encoders compared",
        "",
        f"{len(samples):,} tiles of {groups} patients (or groups), classes "
        f"{', '.join(samples.classes)}. Intervals are 95 %, over patients; differences "
        "are paired on the same patients. Encoders of one group cannot be told apart.",
    ]
    if groups < _FEW_GROUPS:
        lines += ["", f"Only {groups} groups: intervals of so few say little."]
    for name, scores in by_probe.items():
        lines += ["", f"## {name}", "", *_table(rank(scores, metric), scores,
                                                facts, metric)]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(
    ranked: Sequence[Ranked],
    scores: Mapping[str, TileMetrics],
    facts: Mapping[str, EncoderFacts],
    metric: str,
) -> list[str]:
    others = [name for name in _SHOWN if name != metric]
    heads = ["group", "encoder", metric, "from the best of its group", *others]
    lines = [
        "| " + " | ".join([*heads, "width", "images/s"]) + " |",
        "|" + "---|" * (len(heads) + 2),
    ]
    for row in ranked:
        width, rate = facts[row.name].width, facts[row.name].images_per_second
        score, gap = row.score, row.difference
        cells = [
            str(row.group),
            row.name,
            f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})",
            f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})",
            *(f"{scores[row.name].values[name]:.3f}" for name in others),
            str(width),
            f"{rate:.1f}" if np.isfinite(rate) else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
