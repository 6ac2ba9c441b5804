"""Encoders compared: a row of scores each, their ranking and their cost."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.encoder_tables import EncoderTable, show
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.ranking import rank

_SHOWN = ("balanced_accuracy", "kappa", "weighted_f1", "auroc")
_FEW_GROUPS = 10


@dataclass(frozen=True)
class EncoderFacts:
    """Of an encoder.

    ``width``: of its embeddings; ``images_per_second``: NaN where it did not run;
    ``engine``: what ran it; ``licence``: of its weights, empty where it is not known.
    """

    width: int
    images_per_second: float
    engine: str = ""
    licence: str = ""

    @property
    def bytes_a_tile(self) -> int:
        """Of an embedding in float16."""
        return 2 * self.width


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
    row |= {f"{name}_of_folds": f"{v:.4f}" for name, v in found.of_folds.items()}
    return row


def about(samples: TileSamples) -> list[str]:
    """Sentences on what was compared, and how far it can be trusted."""
    groups = len(samples.groups)
    lines = [
        f"{len(samples):,} tiles of {groups} patients (or groups), classes "
        f"{', '.join(samples.classes)}. Intervals are 95 %, over patients; differences "
        "are paired on the same patients. Encoders of one group cannot be told apart."
    ]
    if groups < _FEW_GROUPS:
        lines.append(f"Only {groups} groups: intervals of so few say little.")
    return lines


def conclusion(
    by_probe: Mapping[str, Mapping[str, TileMetrics]],
    facts: Mapping[str, EncoderFacts],
    metric: str,
    floors: Collection[str],
) -> str:
    """Which encoder, which are tied with it, and which of these costs least.

    Args:
        by_probe: scores of each encoder by each probe; the first one ranks.
        facts: of each encoder.
        metric: that ranks.
        floors: encoders that are there to be beaten.
    """
    first = {
        probe: [row for row in rank(scores, metric) if row.group == 1]
        for probe, scores in by_probe.items()
    }
    main, *others = first
    best, *tied = first[main]
    names = ", ".join(row.name for row in tied)
    text = f"By {main} {best.name} is first, {show(best.score)}"
    if not tied:
        text += ", and no other encoder is tied with it."
    else:
        text += f"; tied with it: {names}."
    known = [row.name for row in first[main] if row.name not in floors]
    if len(known) < len(first[main]):
        text += " A floor is in this group: these tiles are no reason to choose any."
    if len(known) > 1:
        text += f" {_cheapest(known, facts)}"
    for probe in others:
        group = ", ".join(row.name for row in first[probe])
        text += f" By {probe} the first group is: {group}."
    return text


def _cheapest(names: Sequence[str], facts: Mapping[str, EncoderFacts]) -> str:
    """Which of tied encoders is the fastest and which the narrowest."""
    own = facts[min(names, key=lambda name: facts[name].width)]
    narrow = [name for name in names if facts[name].width == own.width]
    text = f"Of these the narrowest is {', '.join(narrow)} ({own.bytes_a_tile:,} bytes "
    text += "a tile)"
    if all(facts[name].images_per_second > 0 for name in names):
        fast = max(names, key=lambda name: facts[name].images_per_second)
        rate = f"{facts[fast].images_per_second:.1f} images a second"
        text += f", the fastest {fast} ({rate})"
    return f"{text}."


def ranking_table(
    probe: str,
    scores: Mapping[str, TileMetrics],
    facts: Mapping[str, EncoderFacts],
    metric: str,
) -> EncoderTable:
    """Encoders ranked by the metric of a probe.

    Args:
        probe: its name.
        scores: of each encoder.
        facts: of each encoder.
        metric: that ranks.
    """
    others = [name for name in _SHOWN if name != metric]
    rows = []
    for row in rank(scores, metric):
        gap = show(row.difference, "+") if row.difference else ""
        cells = [str(row.group), row.name, show(row.score), gap]
        cells += [f"{scores[row.name].values[name]:.3f}" for name in others]
        inside = scores[row.name].of_folds.get("auroc", math.nan)
        cells.append(f"{inside:.3f}" if math.isfinite(inside) else "")
        rows.append([*cells, str(facts[row.name].width)])
    header = ["group", "encoder", metric, "from the best", *others]
    header.append("auroc within folds")
    return EncoderTable(probe, probe, "", [*header, "width"], rows)


def cost_table(
    facts: Mapping[str, EncoderFacts],
    scores: Mapping[str, TileMetrics],
    metric: str,
    floors: Collection[str],
) -> EncoderTable:
    """What an encoder costs, and on what terms its weights are had."""
    rows = []
    for row in rank(scores, metric):
        own = facts[row.name]
        rate = f"{own.images_per_second:.1f}" if own.images_per_second > 0 else ""
        kind = "floor" if row.name in floors else ""
        cells = [row.name, kind, f"{row.score.value:.3f}", str(own.width)]
        rows.append([*cells, f"{own.bytes_a_tile:,}", rate, own.engine, own.licence])
    header = ["encoder", "", metric, "width", "bytes a tile", "images/s", "engine",
              "licence of the weights"]  # fmt: skip
    text = (
        "Bytes of an embedding in float16. Images a second on the machine that ran "
        "this, one batch after the other; empty of embeddings made before. A licence "
        "is that of the recipe: empty where none is known, so look it up."
    )
    return EncoderTable("cost", "Cost and licence", text, header, rows)
