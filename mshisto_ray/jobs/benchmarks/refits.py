"""Coverage of a sweep's intervals, those with refits among them, by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure
from mshisto_ray.jobs.benchmarks._refit_cohorts import SweptCohort, sweep_cohort
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.manifest import write_text

TABLES = "refits.md"
_LEAST = 0.93
HEADER = (
    "patients", "best AUROC", "AUROC of models", "estimate", "held", "refits",
    "held, these models", "refits, these models", "width, held", "width, refits",
)  # fmt: skip


@dataclass(frozen=True)
class Covered:
    """What was found in one kind of cohort, a ``SweptCohort`` for each.

    ``patients``: of a cohort; ``auroc``: of the best linear score.
    """

    patients: int
    auroc: float
    found: Sequence[SweptCohort]

    @property
    def true(self) -> float:
        """AUROC that such a sweep has, on average over cohorts."""
        return float(np.mean([swept.true for swept in self.found]))

    def share(self, way: str) -> float:
        """Cohorts whose interval (``held``, ``wide``) holds ``true``."""
        return float(np.mean([_holds(getattr(s, way), self.true) for s in self.found]))

    def share_of_own(self, way: str) -> float:
        """Cohorts whose interval holds the AUROC of the models trained on it."""
        return float(np.mean([_holds(getattr(s, way), s.true) for s in self.found]))

    def width(self, way: str) -> float:
        """Mean width of an interval."""
        ends = [getattr(swept, way) for swept in self.found]
        return float(np.mean([interval.high - interval.low for interval in ends]))


def build(
    *,
    cohorts: Annotated[int, Field(ge=2)] = 60,
    refits: Annotated[int, Field(ge=2)] = 20,
    patients: tuple[Annotated[int, Field(ge=20)], ...] = (40, 100),
    aurocs: tuple[Annotated[float, Field(ge=0.5, lt=1)], ...] = (0.7, 0.9),
) -> Benchmark:
    """How often a sweep's intervals hold its true AUROC; a table in ``refits.md``.

    Args:
        cohorts: of each setting.
        refits: of a sweep.
        patients: numbers of patients of a cohort.
        aurocs: of the best linear score.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        rows = []
        with threadpool_limits(1):
            for num in patients:
                for auroc in aurocs:
                    rng = np.random.default_rng(0)
                    given = num, auroc, refits, rng
                    found = [sweep_cohort(*given) for _ in range(cohorts)]
                    rows.append(Covered(num, auroc, found))
                    print(f"refits: {num} patients, AUROC {auroc:g}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TABLES, render(rows))
        return _summary(rows)

    return measure


def render(rows: Sequence[Covered]) -> str:
    """The table."""
    lines = [HEADER, ["---"] * len(HEADER)]
    for row in rows:
        estimated = np.mean([swept.held.value for swept in row.found])
        values = [row.true, estimated]
        values += [row.share("held"), row.share("wide")]
        values += [row.share_of_own("held"), row.share_of_own("wide")]
        values += [row.width("held"), row.width("wide")]
        cells = [f"{value:.3f}".replace("0.", ".", 1) for value in values]
        lines.append([str(row.patients), f"{row.auroc:g}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _summary(rows: Sequence[Covered]) -> dict[str, Measure]:
    measures = {}
    for way, target in (("held", None), ("wide", _LEAST)):
        shares = [row.share(way) for row in rows]
        held = float(np.mean([row.share("held") for row in rows]))
        name = f"refits.{way}"
        baseline = None if way == "held" else held
        measures[f"{name}.mean"] = Measure(
            float(np.mean(shares)), "share", baseline, target
        )
        measures[f"{name}.least"] = Measure(min(shares), "share")
    return measures


def _holds(interval: Interval, true: float) -> bool:
    return interval.low <= true <= interval.high
