"""Stages made unit by unit: missing units are made, counted and reported.

Tiling, embedding, import, export and prediction share these steps: plan the units, make
the missing ones through Ray, read all shards, write the tables, report.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mshisto_ray.config import TooManyFailuresError
from mshisto_ray.progress import Progress, check_failures, say
from mshisto_ray.runtime import Resources
from mshisto_ray.store.attempts import forgive_last, tiles_at_work
from mshisto_ray.store.failures import CSV, Failure, reasons, write_failures
from mshisto_ray.store.shards import write_shard

Unit = dict[str, Any]


@dataclass(frozen=True)
class Collected:
    """The content of a stage directory's shards.

    Attributes:
        failures: of all finished units.
        failed: slides (or bags) that gave nothing at all.
        total: slides (or bags) of the cohort.
        tables: to write, by file name; the first one marks the stage as complete.
    """

    failures: list[Failure]
    failed: int
    total: int
    tables: Mapping[str, pa.Table] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Differs between results that differ in anything but the time they took."""
        tables = {name: table.to_pylist() for name, table in self.tables.items()}
        failures = sorted(repr(failure) for failure in self.failures)
        text = repr((failures, self.failed, self.total, tables))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class UnitStage:
    """A stage directory whose shards are made unit by unit.

    Attributes:
        name: of the stage, in messages.
        noun: what a unit is called, in the plural.
        out: the directory.
        total: units that the cohort has.
        pending: units still to make; JSON objects that name their ``slide_id``.
        collect: reads what the shards hold.
        report: writes to the console and MLflow; takes what was collected, and the
            progress of this run (None: nothing was left to make).
        tables: that mark the stage as complete, removed while units are pending.
        on_unit: takes the row of each unit as it is done.
    """

    name: str
    noun: str
    out: Path
    total: int
    pending: Sequence[Unit]
    collect: Callable[[], Collected]
    report: Callable[[Collected, Progress | None], None]
    tables: Sequence[str] = ()
    on_unit: Callable[[Mapping[str, Any]], None] | None = None


def run_units(
    stages: Sequence[UnitStage],
    make: Callable[[Sequence[Unit]], Iterator[Mapping[str, Any]]],
    max_failures: float,
    expected_tiles: int = 0,
) -> None:
    """Make the pending units of the stages in one go, then finish each stage.

    Args:
        stages: one, or several that share the making of a unit.
        make: yields the row of counts of each unit as it is done.
        max_failures: share of slides that may fail wholly.
        expected_tiles: of all pending units, for the time left; 0: unknown.

    Raises:
        TooManyFailuresError: more slides failed, or a unit could not be written; the
            failures are written first.
    """
    for stage in stages:
        done = stage.total - len(stage.pending)
        say(f"{stage.name}: {done} of {stage.total} {stage.noun} already done -> "
            f"{stage.out}")  # fmt: skip
        for table in stage.tables if stage.pending else ():
            (stage.out / table).unlink(missing_ok=True)
    progress, unwritten = None, []
    units = _union(stages)
    if units:
        for stage in stages:
            forgive_last(stage.out)
        per_slide = Counter(unit["slide_id"] for unit in units)
        progress = Progress(stages[0].name, per_slide, expected_tiles, max_failures)
        at_work = functools.partial(tiles_at_work, stages[0].out)
        try:
            with progress.watching(at_work):
                for row in make(units):
                    if "unwritten" in row:
                        unwritten.append(Failure(**row["unwritten"]))
                    for stage in stages:
                        if stage.on_unit:
                            stage.on_unit(row)
                    progress.add(row)
            _check_written(stages[0].noun, unwritten)
        except TooManyFailuresError:
            for stage in stages:
                _record(stage, [*stage.collect().failures, *unwritten])
            raise
    collected = [_finish(stage, progress) for stage in stages]
    suspicion = progress.suspicion() if progress else ""
    for found in collected:
        check_failures(found.failed, found.total, max_failures, suspicion)


def _check_written(noun: str, unwritten: Sequence[Failure]) -> None:
    """A stage that lacks a shard must not be taken for complete."""
    if unwritten:
        first = unwritten[0]
        raise TooManyFailuresError(
            f"{len(unwritten)} {noun} could not be written ({first.error}: "
            f"{first.message}); the same command resumes"
        )


def on_workers(
    make: Callable[..., Callable[[Unit], Unit]],
    arguments: Callable[[int], Sequence[Any]],
    resources: Resources,
) -> Callable[[Sequence[Unit]], Iterator[dict[str, Any]]]:
    """A function that makes units on the cluster; see ``pipeline.stream``.

    Args:
        make: importable function; called once per worker, returns the unit's function.
        arguments: of ``make``, by the number of threads of a worker.
        resources: of the workers.
    """

    def run(units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
        # Takes seconds to import, which a stage that is done does without.
        from mshisto_ray.distributed import pipeline, session, workers

        with session.connect():
            plan = workers.plan_actors(resources)
            yield from pipeline.stream(units, make, arguments(plan.threads), plan)

    return run


def _union(stages: Sequence[UnitStage]) -> list[Unit]:
    """Every pending unit once, in the order of the stages."""
    units = {
        json.dumps(unit, sort_keys=True): unit
        for stage in stages
        for unit in stage.pending
    }
    return list(units.values())


def _finish(stage: UnitStage, progress: Progress | None) -> Collected:
    found = stage.collect()
    _record(stage, found.failures)
    for name, table in found.tables.items():
        write_shard(stage.out / name, [table])
    stage.report(found, progress)
    return found


def _record(stage: UnitStage, failures: Sequence[Failure]) -> None:
    """Write the failures of a stage, and print their reasons."""
    write_failures(stage.out, failures)
    lines = reasons(failures)
    for line in lines:
        say(f"{stage.name}: {line}")
    if lines:
        say(f"{stage.name}: all failures: {stage.out / CSV}")
