"""Apply a saved head to new slides: one unit per bag, its scores in a shard."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mshisto_ray.config import (
    Config,
    InputError,
    InputPath,
    ModelPath,
    OutputPath,
    option,
)
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.learning.intervals import METHOD
from mshisto_ray.mil.head import Head, head_digest, load_head
from mshisto_ray.prediction.bags import make_bags
from mshisto_ray.prediction.result import (
    SUBGROUPS,
    find_failures,
    find_predicted,
    find_truth,
    write_result,
)
from mshisto_ray.prediction.unit import (
    Bag,
    PredictWork,
    made_from,
    make_predictor,
    shard_path,
)
from mshisto_ray.progress import say
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.tracking import Store, fetch_model

STAGE = "predictions"


class PredictConfig(Config):
    """Predict new slides with a saved head."""

    head: ModelPath = option(
        text="head directory (`best` of sweep, `result/head` of train), or one that "
        "is registered in MLflow: models:/NAME@champion"
    )
    embeddings: InputPath | tuple[InputPath, ...] = option(
        text="directory that jobs/embed.py made; a list: one per scale of the head"
    )
    cohort: InputPath = option(text="the slides to predict; labels are not needed")
    columns: ColumnsConfig = ColumnsConfig()
    out: OutputPath = option(text="predictions directory; an unfinished one is resumed")
    tiles: InputPath | None = option(
        None, "tiles directory, for heat maps over the slides; null: none are drawn"
    )
    annotation: str | None = option(
        None,
        "class of annotated tiles to compare scores with; null: the only one",
    )
    subgroups: tuple[str, ...] = option(
        (), "columns of the cohort, as [site, sex]: metrics within each of their values"
    )
    runtime: UnitsRuntime = UnitsRuntime()


def check(config: PredictConfig) -> None:
    """Check head, embeddings, cohort and that ``out`` can be used."""
    config = _with_folder(config)
    head, embeddings = _open(config)
    cohort = _read_cohort(config)
    make_bags(head, cohort)
    check_stage(config.out, STAGE, _recipe(head, embeddings, config))


def run(config: PredictConfig) -> None:
    """Predict new slides with a saved head."""
    if (found := _with_folder(config)) != config:
        say(f"predict: {config.head} is {found.head}")
    config = found
    head, embeddings = _open(config)
    cohort = _read_cohort(config)
    bags, notes = make_bags(head, cohort)
    say_cohort("predict", cohort)
    for note in notes:
        say(f"predict: {note}")
    recipe = _recipe(head, embeddings, config)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, head, embeddings, cohort, bags)


def _with_folder(config: PredictConfig) -> PredictConfig:
    """The config with a registered head's folder in place of its name."""
    folder = fetch_model(config.head, config.runtime.store_uri(config.out))
    return config.model_copy(update={"head": folder})


def _read_cohort(config: PredictConfig) -> Cohort:
    cohort = read_cohort(config.cohort, False, config.columns)
    for column in config.subgroups:
        cohort.column(column)  # refuses one that cannot be used
    return cohort


def _run(
    config: PredictConfig,
    head: Head,
    embeddings: list[EmbeddingDirectory],
    cohort: Cohort,
    bags: list[Bag],
) -> None:
    store = config.runtime.open_store(config.out)
    pending = [bag.as_unit() for bag in bags if not _is_done(config, bag, embeddings)]
    stage = UnitStage(
        "predict",
        "bags",
        config.out,
        len(bags),
        pending,
        lambda: _collect(config.out, bags),
        lambda found, progress: _report(config, store, head, cohort, bags, found),
    )
    truth = find_truth(head, cohort, bags) if config.tiles else {}
    paths = _paths(config, head)
    work = PredictWork(config.head, paths, config.tiles, config.out, truth)
    make = on_workers(make_predictor, lambda plan: (work, plan.threads), config.runtime)
    run_units([stage], make, config.runtime.max_failures)


def _collect(out: Path, bags: list[Bag]) -> Collected:
    failures, predicted = find_failures(out, bags), find_predicted(out, bags)
    return Collected(failures, len(bags) - len(predicted), len(bags))


def _paths(config: PredictConfig, head: Head) -> tuple[Path, ...]:
    """Embeddings of each scale of the head, coarsest first."""
    num = len(head.dims)
    if isinstance(config.embeddings, Path):
        return (config.embeddings,) * num
    if len(config.embeddings) != num:
        raise InputError(
            f"embeddings: {len(config.embeddings)} directories for the {num} scales of "
            f"{config.head}; give one, or one per scale"
        )
    return config.embeddings


def _open(config: PredictConfig) -> tuple[Head, list[EmbeddingDirectory]]:
    head = load_head(config.head)
    directories = [EmbeddingDirectory(path) for path in _paths(config, head)]
    if head.encoder is None or head.scale is None:
        raise InputError(
            f"{config.head}: was trained on a bag table, not on embeddings; there are "
            "no tiles to apply it to"
        )
    scales = head.scales or (head.scale,)
    for directory, mpp in zip(directories, scales, strict=True):
        wanted = head.encoder[str(mpp)] if head.scales else head.encoder
        given = directory.manifest.recipe["encoder"]
        if given != wanted:
            raise InputError(
                f"{directory.path}: made by encoder {given}, the head was trained on "
                f"{wanted}: embed the new slides with that one"
            )
        if mpp not in directory.scales:
            raise InputError(
                f"{directory.path}: has scales {directory.scales}, the head was "
                f"trained at {mpp:g} um/px: tile and embed the new slides there"
            )
    return head, directories


def _recipe(
    head: Head, directories: list[EmbeddingDirectory], config: PredictConfig
) -> dict[str, Any]:
    digests = [directory.manifest.digest for directory in directories]
    return {
        "head": head_digest(config.head),
        "embeddings": digests[0] if len(set(digests)) == 1 else digests,
        "heat_maps": config.tiles is not None,
    }


def _is_done(
    config: PredictConfig, bag: Bag, embeddings: list[EmbeddingDirectory]
) -> bool:
    metadata = read_metadata(shard_path(config.out, bag.name))
    if metadata is None or metadata["made_from"] != made_from(embeddings, bag):
        return False
    kinds = {failure["kind"] for failure in metadata["failures"]}
    return not kinds or (kinds == {"crash"} and not config.runtime.retry_failures)


def _is_external(head: Head, bags: list[Bag]) -> bool:
    """Whether some bag is of a patient that no model of the head was trained on."""
    return any(bag.patient_id not in head.folds for bag in bags)


def _report(
    config: PredictConfig,
    store: Store,
    head: Head,
    cohort: Cohort,
    bags: list[Bag],
    found: Collected,
) -> None:
    """Write the results, print them, and log them to MLflow."""
    outcome = write_result(
        config.out,
        head,
        cohort,
        bags,
        config.tiles,
        config.annotation,
        config.subgroups,
    )
    failures = len(found.failures)
    say(f"predict: {outcome.num_predicted} bags predicted, {outcome.num_labelled} with "
        f"a label, {failures} failures -> {config.out}")  # fmt: skip
    logged: dict[str, float] = {
        "bags": outcome.num_predicted,
        "failures": failures,
    }
    whose = "external" if _is_external(head, bags) else "out-of-fold"
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
    for group in outcome.subgroups:
        say(f"  {group.line}")
    for note in outcome.notes:
        say(f"  {note}")
    artifacts = [config.out / "predictions.parquet", config.out / "metrics.json"]
    artifacts += [config.out / SUBGROUPS] if config.subgroups else []
    tags = {"head": head_digest(config.head), "intervals": METHOD}
    # The labels may be others than those of an earlier run.
    key = f"{found.digest} {sorted(logged.items())}"
    settings = config.model_dump(mode="json")
    store.log_once(key, "predict", settings, logged, tags, artifacts)
