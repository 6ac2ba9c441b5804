"""A unit of a study that is a sweep: trained here, concluded as any sweep is."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq

from mshisto_ray import config as configs
from mshisto_ray.jobs import sweep
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.jobs._sweep_ranking import is_done
from mshisto_ray.learning import result_files
from mshisto_ray.learning.sweep import results
from mshisto_ray.learning.sweep.point_source import PointSource
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.studies import SweptPoint, UnitResult, UnitSweep

SWEEPS, BAGS = "sweeps", "bags"


def make_config(
    name: str, unit: UnitSweep, out: Path, runtime: Runtime
) -> tuple[SweepConfig, Path]:
    """The config of ``mshisto sweep`` of a unit, and its table of bags, written.

    Args:
        name: of the unit.
        unit: what is swept.
        out: directory of the study.
        runtime: whose MLflow store and experiment it takes.
    """
    bags = out / BAGS / f"{name}.parquet"
    bags.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(unit.bags(), bags)
    uri, experiment = runtime.store_uri(out), runtime.mlflow.experiment
    raw = {
        **unit.settings,
        "bags": str(bags),
        "out": str(out / SWEEPS / name),
        "runtime": {"mlflow": {"uri": uri, "experiment": experiment}},
    }
    return configs.validate(SweepConfig, raw), bags


def train(config: SweepConfig, unit: UnitSweep) -> tuple[UnitResult, dict[str, float]]:
    """Train what has no result yet in this process; returns also what it cost.

    The models are small: starting workers would take longer.
    """
    source = PointSource(config, config, config.out)
    recorded = config.model_dump(mode="json")
    started, cpu = time.perf_counter(), time.process_time()
    with open_stage(config.out, sweep.STAGE, {"stage": sweep.STAGE}, recorded):
        data = source.first.load()
        for digest, point in source.points.items():
            if not is_done(config, digest):
                folder = results.folder(config.out, digest)
                point.config.train(data, folder, lambda done, total: None)
    seconds = time.perf_counter() - started
    cost = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}
    points = [_read(results.folder(config.out, digest)) for digest in source.points]
    return unit.conclude(points), cost


def _read(folder: Path) -> SweptPoint:
    metrics = result_files.read_metrics(folder)
    validation = result_files.read_validation(folder)
    assert metrics is not None and validation is not None
    trained = metrics["trained_share"]
    return SweptPoint(result_files.read_test(folder), validation, trained)


def conclude(config: SweepConfig) -> None:
    """Write summary, report, best head and MLflow runs, as ``mshisto sweep`` does."""
    sweep.run(config)
