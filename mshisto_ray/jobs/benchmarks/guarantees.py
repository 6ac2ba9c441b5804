"""What sets, drift test, intervals of C and nested selection promise, by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure
from mshisto_ray.jobs.benchmarks._permuted_sweep import (
    Chosen,
    holds_chance,
    permuted_sweeps,
)
from mshisto_ray.jobs.benchmarks._promises import (
    Row,
    concordance_rows,
    conformal_rows,
    drift_rows,
)
from mshisto_ray.store.manifest import write_text

TABLES = "guarantees.md"
_MISSED = 0.1
_HELD, _REFITTED, _NAIVE = 17 / 20, 18 / 20, 0.5


def build(
    *,
    cohorts: Annotated[int, Field(ge=2)] = 400,
    drift_cohorts: Annotated[int, Field(ge=2)] = 200,
    replicates: Annotated[int, Field(ge=10)] = 300,
    permutations: Annotated[int, Field(ge=1)] = 20,
    points: Annotated[int, Field(ge=2)] = 100,
    refits: Annotated[int, Field(ge=2)] = 20,
) -> Benchmark:
    """How often promises are kept; tables in ``guarantees.md``.

    Args:
        cohorts: of each setting of sets and of intervals of C.
        drift_cohorts: of each setting of the drift test.
        replicates: of each bootstrap of C.
        permutations: of the labels of a sweep.
        points: of that sweep.
        refits: of that sweep, after each permutation.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        with threadpool_limits(1):
            sets = conformal_rows(cohorts, _MISSED)
            drift = drift_rows(drift_cohorts)
            c = concordance_rows(cohorts, replicates)
            chosen = permuted_sweeps(permutations, points, 100, refits)
        folder.mkdir(parents=True, exist_ok=True)
        blocks = [
            (("patients", "slides at most", "by class"), sets, "Conformal sets"),
            (("patients", "shift"), drift, "Drift test at .05"),
            (("C", "patients"), c, "Percentile intervals of Harrell's C"),
        ]
        parts = [f"## {title}\n\n{_table(*rest)}" for *rest, title in blocks]
        parts.append(f"## Permuted labels\n\n{_permuted(chosen)}")
        write_text(folder / TABLES, "\n".join(parts))
        return _summary(sets, drift, c, chosen)

    return measure


def _table(header: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [[*header, *rows[0].found]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        lines.append([*row.setting, *(f"{v:.3f}" for v in row.found.values())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _permuted(chosen: Sequence[Chosen]) -> str:
    header = ("permutation", "chosen in each fold", "with refits", "chosen once")
    header += ("best on test",)
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for number, found in enumerate(chosen, start=1):
        cells = [
            f"{i.value:.3f} ({i.low:.3f} to {i.high:.3f})"
            for i in (found.nested, found.wide, found.once, found.naive)
        ]
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _summary(
    sets: Sequence[Row],
    drift: Sequence[Row],
    c: Sequence[Row],
    chosen: Sequence[Chosen],
) -> dict[str, Measure]:
    covered = [row.found["covered"] for row in sets]
    quiet = [row.found for row in drift if float(row.setting[-1]) == 0]
    held = [row.found["held"] for row in c]
    nested = float(np.mean([holds_chance(found.nested) for found in chosen]))
    wide = float(np.mean([holds_chance(found.wide) for found in chosen]))
    once = float(np.mean([holds_chance(found.once) for found in chosen]))
    naive = float(np.mean([holds_chance(found.naive) for found in chosen]))
    worst = {name: max(found[name] for found in quiet) for name in quiet[0]}
    alarms = {
        f"guarantees.drift.{name.replace(' ', '_')}": Measure(
            value, "share", None, 0.07, "at most"
        )
        for name, value in worst.items()
    }
    return {
        "guarantees.sets.least_covered": Measure(
            min(covered), "share", None, 1 - _MISSED - 0.01
        ),
        **alarms,
        "guarantees.c.least_held": Measure(min(held), "share", None, 0.93),
        "guarantees.permuted.nested_holds": Measure(nested, "share", None, _HELD),
        "guarantees.permuted.refits_hold": Measure(wide, "share", None, _REFITTED),
        "guarantees.permuted.once_holds": Measure(once, "share"),
        "guarantees.permuted.naive_holds": Measure(
            naive, "share", None, _NAIVE, "at most"
        ),
    }
