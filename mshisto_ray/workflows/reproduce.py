"""A published study run again: unit by unit, resumable, its table beside the paper."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputPath, OutputPath, option
from mshisto_ray.learning.predictions import read_predictions, write_predictions
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.workflows.studies._study import Study, UnitResult

STUDIES = "mshisto_ray.workflows.studies"
STAGE = "study"


class ReproduceConfig(Config):
    """Run a published study again and print its table."""

    study: Annotated[Part, Family(STUDIES)] = option(text="which one")
    data: InputPath = option(text="folder with the study's data")
    out: OutputPath = option(text="directory to make or to go on with")


def check(config: ReproduceConfig) -> None:
    """Check the study's data and that ``out`` can be entered."""
    _study(config)
    check_stage(config.out, STAGE, _recipe(config))


def run(config: ReproduceConfig) -> None:
    """Run a published study again and print its table."""
    study = _study(config)
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, _recipe(config), recorded):
        _run(study, config.out)


def _study(config: ReproduceConfig) -> Study:
    return components.build(STUDIES, config.study, config.data)


def _recipe(config: ReproduceConfig) -> dict[str, object]:
    return {"study": config.study.model_dump(mode="json")}


def _run(study: Study, out: Path) -> None:
    units = study.units()
    done = {}
    for unit in units:
        found = _read(out, unit.name)
        if found:
            done[unit.name] = found
    print(f"reproduce: {len(done)} of {len(units)} units stand -> {out}", flush=True)
    for unit in units:
        if unit.name in done:
            continue
        started, cpu = time.perf_counter(), time.process_time()
        result = unit.run()
        seconds = time.perf_counter() - started
        cost = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}
        _write(out, unit.name, result, cost)
        done[unit.name] = result
        write_text(out / "table.md", study.table(done))
        print(
            f"reproduce: {len(done)}/{len(units)} {unit.name}, {seconds:.0f} s",
            flush=True,
        )
    text = study.table(done)
    write_text(out / "table.md", text)
    print(f"\n{text}\nreproduce: {out / 'table.md'}", flush=True)


def _write(out: Path, name: str, result: UnitResult, cost: dict[str, float]) -> None:
    """Predictions first: the file of numbers says that the unit is whole."""
    write_predictions(out / "units" / f"{name}.parquet", result.predictions)
    content = {"extras": dict(result.extras), **cost}
    write_text(out / "units" / f"{name}.json", json.dumps(content) + "\n")


def _read(out: Path, name: str) -> UnitResult | None:
    file = out / "units" / f"{name}.json"
    if not file.is_file():
        return None
    extras = json.loads(file.read_text())["extras"]
    return UnitResult(read_predictions(file.with_suffix(".parquet")), extras)
