"""Apply a saved head to new slides: one unit a bag, its tiles' scores to a shard."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray import tracking
from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.distributed.pipeline import stream
from mshisto_ray.distributed.predict_unit import Bag, PredictWork, make_predictor
from mshisto_ray.distributed.progress import Progress, check_failures, say
from mshisto_ray.distributed.session import Resources, connect, plan_actors
from mshisto_ray.evaluation.bootstrap import Interval
from mshisto_ray.learning.bootstrap import intervals
from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil.head import Head, load_head
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.failures import Failure, write_failures
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.store.shards import read_metadata, write_shard

STAGE = "predictions"


class PredictConfig(Config):
    """Predict new slides with a saved head."""

    head: InputPath = option(text="head directory (`best` of a sweep, or of train)")
    embeddings: InputPath | tuple[InputPath, ...] = option(
        text="directory that jobs/embed.py made; a list: one per scale of the head"
    )
    cohort: InputPath = option(text="the slides to predict; labels are not needed")
    out: OutputPath = option(text="predictions directory to make or to go on with")
    tiles: InputPath | None = option(
        None, "tiles directory, for heat maps over the slides; null: none are drawn"
    )
    max_failures: float = option(
        0.5, "share of bags that may fail", unit="share", ge=0, le=1
    )
    resources: Resources = Resources()
    mlflow: tracking.TrackingConfig = tracking.TrackingConfig()


def check(config: PredictConfig) -> None:
    """Check head, embeddings, cohort and that ``out`` can be entered."""
    head, embeddings = _open(config)
    _bags(head, read_cohort(config.cohort, check_files=False))
    check_stage(config.out, STAGE, _recipe(head, embeddings, config))


def run(config: PredictConfig) -> None:
    """Predict new slides with a saved head."""
    head, embeddings = _open(config)
    cohort = read_cohort(config.cohort, check_files=False)
    bags = _bags(head, cohort)
    recipe = _recipe(head, embeddings, config)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, head, cohort, bags)


def _run(config: PredictConfig, head: Head, cohort: Cohort, bags: list[Bag]) -> None:
    pending = [bag for bag in bags if not _stands(config.out, bag)]
    say(f"predict: {len(bags) - len(pending)} bags stand, {len(pending)} to do -> "
        f"{config.out}")  # fmt: skip
    if pending:
        progress = Progress(
            "predict", {bag.name: 1 for bag in pending}, 0, config.max_failures
        )
        paths = _paths(config, head)
        work = PredictWork(config.head, paths, config.tiles, config.out)
        with connect():
            plan = plan_actors(config.resources)
            units = [asdict(bag) for bag in pending]
            for row in stream(units, make_predictor, (work, plan.threads), plan):
                progress.add(row)
    _finish(config, head, cohort, bags)


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
        "head": _head_digest(config.head),
        "embeddings": digests[0] if len(set(digests)) == 1 else digests,
        "heat_maps": config.tiles is not None,
    }


def _head_digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _bags(head: Head, cohort: Cohort) -> list[Bag]:
    """One bag a slide, or a patient, as the head was trained."""
    groups: dict[str, list[str]] = {}
    patients: dict[str, str] = {}
    for row in cohort.rows:
        name = row.slide_id if head.about["unit"] == "slide" else row.patient_id
        groups.setdefault(name, []).append(row.slide_id)
        patients[name] = row.patient_id
    return [Bag(name, patients[name], slides) for name, slides in groups.items()]


def shard_path(out: Path, bag: str) -> Path:
    """Where the tiles' scores of a bag lie."""
    return out / "shards" / f"{bag}.parquet"


def _stands(out: Path, bag: Bag) -> bool:
    metadata = read_metadata(shard_path(out, bag.name))
    return (
        metadata is not None
        and metadata["slide_ids"] == bag.slide_ids
        and not metadata["failures"]
    )


def _finish(config: PredictConfig, head: Head, cohort: Cohort, bags: list[Bag]) -> None:
    """Tables, metrics where there are labels, and the MLflow run."""
    shards = {b.name: read_metadata(shard_path(config.out, b.name)) for b in bags}
    found = {name: shard for name, shard in shards.items() if shard}
    failures = [Failure(**f) for shard in found.values() for f in shard["failures"]]
    write_failures(config.out, failures)
    predicted = [bag for bag in bags if found.get(bag.name, {}).get("probabilities")]
    if not predicted:
        check_failures(len(bags), len(bags), 0.0)
    probabilities = np.array([found[bag.name]["probabilities"] for bag in predicted])
    targets = _targets(head, cohort, predicted)
    _write_table(config.out, head, predicted, probabilities, targets)
    known = [i for i, target in enumerate(targets) if target is not None]
    metrics = {}
    if len({targets[i] for i in known}) > 1:
        labelled = [predicted[i] for i in known]
        index = [head.classes.index(str(targets[i])) for i in known]
        metrics = intervals(_predictions(head, labelled, probabilities[known], index))
    _report(config, len(predicted), len(known), failures, metrics)
    check_failures(len(bags) - len(predicted), len(bags), config.max_failures)


def _targets(head: Head, cohort: Cohort, bags: list[Bag]) -> list[str | None]:
    """The label of each bag, None where the cohort has none of the head's classes."""
    column = head.about["target"]["column"]
    if column not in cohort.column_names:
        return [None] * len(bags)
    labels = cohort.column(column)
    targets: list[str | None] = []
    for bag in bags:
        own = {labels[slide_id] for slide_id in bag.slide_ids} - {None}
        if len(own) > 1:
            raise InputError(
                f"{cohort.path}: patient {bag.name!r} has slides with different "
                f"{column}s ({', '.join(sorted(map(str, own)))})"
            )
        label = own.pop() if own else None
        targets.append(label if label in head.classes else None)
    return targets


def _predictions(
    head: Head, bags: list[Bag], probabilities: np.ndarray, targets: list[int]
) -> Predictions:
    def text(values: list) -> np.ndarray:
        return np.array(values, dtype=object)

    zeros = np.zeros(len(bags), np.int32)
    return Predictions(
        classes=head.classes,
        bag=text([bag.name for bag in bags]),
        slide_id=text([bag.slide_id for bag in bags]),
        patient_id=text([bag.patient_id for bag in bags]),
        target=np.array(targets, np.int64),
        fold=zeros,
        repeat=zeros,
        probabilities=probabilities,
    )


def _write_table(
    out: Path,
    head: Head,
    bags: list[Bag],
    probabilities: np.ndarray,
    targets: list[str | None],
) -> None:
    """``predictions.parquet``; fold and repeat are null: folds are averaged."""
    nothing = pa.nulls(len(bags), pa.int32())
    columns = {
        "bag": pa.array([bag.name for bag in bags], pa.string()),
        "slide_id": pa.array([bag.slide_id for bag in bags], pa.string()),
        "patient_id": pa.array([bag.patient_id for bag in bags], pa.string()),
        "target": pa.array(targets, pa.string()),
        "fold": nothing,
        "repeat": nothing,
    }
    for index, name in enumerate(head.classes):
        columns[f"prob_{name}"] = pa.array(probabilities[:, index], pa.float64())
    names = [head.classes[i] for i in decide(probabilities)]
    columns["predicted"] = pa.array(names, pa.string())
    write_shard(out / "predictions.parquet", [pa.table(columns)])


def _report(
    config: PredictConfig,
    num_predicted: int,
    num_labelled: int,
    failures: list[Failure],
    metrics: dict[str, Interval],
) -> None:
    say(f"predict: {num_predicted} bags predicted, {num_labelled} with a label, "
        f"{len(failures)} failures -> {config.out}")  # fmt: skip
    logged: dict[str, float] = {"bags": num_predicted, "failures": len(failures)}
    for name, interval in metrics.items():
        say(f"  external {name}: {interval.value:.3f} [{interval.low:.3f}, "
            f"{interval.high:.3f}]")  # fmt: skip
        logged |= {
            f"external_{name}": interval.value,
            f"external_{name}_ci_low": interval.low,
            f"external_{name}_ci_high": interval.high,
        }
    told = {name: asdict(interval) for name, interval in metrics.items()}
    write_text(config.out / "metrics.json", json.dumps(told, indent=2) + "\n")
    store = tracking.open_store(config.mlflow.uri, config.out, config.mlflow.experiment)
    artifacts = [config.out / "predictions.parquet", config.out / "metrics.json"]
    tags = {"head": _head_digest(config.head)}
    store.log_run("predict", config.model_dump(mode="json"), logged, tags, artifacts)
