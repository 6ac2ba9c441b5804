"""Run a published study again, unit by unit; its table beside the paper's.

Units may be made on any machine: each records its own recipe, and finished ones in
``out`` are kept.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import field_validator

from mshisto_ray import components, provenance
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.jobs._study_sweep import conclude, make_config, train
from mshisto_ray.learning.predictions import read_predictions, write_predictions
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.manifest import (
    check_stage,
    differences,
    open_stage,
    recipe_digest,
    write_text,
)
from mshisto_ray.studies import (
    Study,
    StudyUnit,
    UnitResult,
    UnitSweep,
)

STUDIES = "mshisto_ray.studies"
STAGE = "study"
_UNITS = "units"
_PICTURES = "pictures"
_TABLE = "table.md"
# What a published study holds, which a copy of it may bring.
_PUBLISHED = (_UNITS, _PICTURES, _TABLE, "plan.json")
_AREA = ".area.parquet"
_RECORDED = ("mshisto-ray", "numpy", "torch")


class ReproduceConfig(Config):
    """Run a published study again and print its table."""

    study: Annotated[Part, Family(STUDIES)] = option(text="the study to run")
    data: InputPath = option(text="folder with the study's data")
    out: OutputPath = option(
        text="directory; an unfinished one, or a copy of a published one, is resumed"
    )
    share: str = option(
        "1/1",
        "which units to make here, as 2/3: of every three the second; one `out` for "
        "each machine, whose units one of them then joins",
    )
    runtime: Runtime = Runtime()

    @field_validator("share")
    @classmethod
    def _is_a_share(cls, value: str) -> str:
        found = re.fullmatch(r"(\d+)/(\d+)", value)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"share: {value!r} is none: give 1/3, 2/3 or 3/3")
        return value


def check(config: ReproduceConfig) -> None:
    """Check the study's data, that ``out`` can be used, and the units in it."""
    study = _study(config)
    check_stage(config.out, STAGE, _recipe(config), _PUBLISHED)
    _finished_units(config.out, study.units())


def run(config: ReproduceConfig) -> None:
    """Run a published study again and print its table."""
    study = _study(config)
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, _recipe(config), recorded, _PUBLISHED):
        _run(study, config.out, config.share, config.runtime)


def _study(config: ReproduceConfig) -> Study:
    return components.build(STUDIES, config.study, config.data)


def _recipe(config: ReproduceConfig) -> dict[str, object]:
    """The recipe of the directory; each unit records its own."""
    return {"study": config.study.name}


def _run(
    study: Study, out: Path, share: str = "1/1", runtime: Runtime | None = None
) -> None:
    runtime = runtime or Runtime()
    units = study.units()
    done = _finished_units(out, units)
    print(
        f"reproduce: {len(done)} of {len(units)} units already done -> {out}",
        flush=True,
    )
    _warn_unknown_units(out, units)
    number, of = map(int, share.split("/"))
    left = [unit for unit in units[number - 1 :: of] if unit.name not in done]
    _say_cost(left)
    for unit in left:
        result, cost = _make(unit, out, runtime)
        seconds = cost["seconds"]
        _write(out, unit, result, cost)
        done[unit.name] = result
        write_text(out / _TABLE, study.table(done))
        print(
            f"reproduce: {len(done)}/{len(units)} {unit.name}, {seconds:.0f} s",
            flush=True,
        )
    text = study.table(done)
    write_text(out / _TABLE, text)
    print(f"\n{text}\nreproduce: {out / 'table.md'}", flush=True)


def _make(
    unit: StudyUnit, out: Path, runtime: Runtime
) -> tuple[UnitResult, dict[str, float]]:
    """The result of a unit, and the seconds that it took."""
    if isinstance(unit.run, UnitSweep):
        given, _ = make_config(unit.name, unit.run, out, runtime)
        result, cost = train(given, unit.run)
        conclude(given)
        return result, cost
    started, cpu = time.perf_counter(), time.process_time()
    result = unit.run()
    seconds = time.perf_counter() - started
    return result, {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}


def _say_cost(units: Sequence[StudyUnit]) -> None:
    """Print what the units will take, where the study has an estimate."""
    hours = [unit.core_hours for unit in units if unit.core_hours is not None]
    if hours:
        print(
            f"reproduce: {len(units)} units to make, about {sum(hours):.3g} hours of "
            f"one CPU core, the longest {max(hours):.3g} (estimated from the size of "
            "the models; a GPU takes a fraction)",
            flush=True,
        )


def _finished_units(out: Path, units: Sequence[StudyUnit]) -> dict[str, UnitResult]:
    """Results of the finished units in ``out``.

    Raises:
        InputError: some were made with another recipe, or lack their predictions.
    """
    found, wrong = {}, []
    for unit in units:
        file = out / _UNITS / f"{unit.name}.json"
        if not file.is_file():
            continue
        content = json.loads(file.read_text())
        if content.get("recipe_digest") == recipe_digest(unit.recipe):
            found[unit.name] = _read(file, content)
        elif "recipe" not in content:
            wrong.append(f"{file.name} (records no recipe)")
        else:
            keys = "; ".join(differences(content["recipe"], unit.recipe))
            wrong.append(f"{file.name} ({keys})")
    if wrong:
        raise InputError(
            f"{out / _UNITS}: {len(wrong)} units were made with another recipe: "
            f"{', '.join(wrong[:3])}{', ...' if wrong[3:] else ''}; remove them to "
            "make them here, or give the study and the data that they were made with"
        )
    return found


def _warn_unknown_units(out: Path, units: Sequence[StudyUnit]) -> None:
    names = {path.stem for path in (out / _UNITS).glob("*.json")}
    unknown = sorted(names - {unit.name for unit in units})
    if unknown:
        print(
            f"reproduce: {len(unknown)} files in {_UNITS} are not units of this study "
            f"and are left out of its table: {', '.join(unknown[:3])}",
            flush=True,
        )


def _write(
    out: Path, unit: StudyUnit, result: UnitResult, cost: dict[str, float]
) -> None:
    """Write predictions first: the JSON file marks the unit as finished."""
    file = out / _UNITS / f"{unit.name}.json"
    write_predictions(file.with_suffix(".parquet"), result.predictions)
    if result.area:
        write_predictions(file.with_suffix(_AREA), result.area)
    for name, picture in result.pictures.items():
        path = out / _PICTURES / f"{unit.name}-{name}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    extras = result.extras
    content = {
        "recipe_digest": recipe_digest(unit.recipe),
        "recipe": dict(unit.recipe),
        # JSON has no NaN; a number that is not defined is null.
        "extras": {k: v if math.isfinite(v) else None for k, v in extras.items()},
        "area": result.area is not None,
        "device": result.device,
        **cost,
        "versions": provenance.versions(_RECORDED),
        "commit": provenance.commit(),
    }
    write_text(file, json.dumps(content, indent=2) + "\n")


def _read(file: Path, content: dict[str, Any]) -> UnitResult:
    predictions = read_predictions(file.with_suffix(".parquet"))
    extras = content["extras"].items()
    known = {k: math.nan if v is None else v for k, v in extras}
    area = read_predictions(file.with_suffix(_AREA)) if content["area"] else None
    return UnitResult(predictions, known, area)
