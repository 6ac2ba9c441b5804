"""The training job: one MIL config, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mshisto_ray.config import OutputPath, option
from mshisto_ray.jobs._decisions import keep_decision
from mshisto_ray.jobs._experiment_run import describe_result
from mshisto_ray.jobs._left_out import write_left_out
from mshisto_ray.jobs._trained import train_on_fewer, write_summary
from mshisto_ray.learning import result_files
from mshisto_ray.learning.fold_means import pooling_notes
from mshisto_ray.learning.retraining.learning_curve import LearningCurveConfig
from mshisto_ray.learning.retraining.thinning import check_sizes
from mshisto_ray.learning.split import Split
from mshisto_ray.mil import experiment, experiment_recipe, experiment_result
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.store.manifest import Manifest, check_stage, open_stage
from mshisto_ray.tracking import Course, Store, flatten, log_inputs

STAGE = "training"
RESULT = "result"


class TrainJobConfig(LearningCurveConfig, ExperimentConfig):
    """Cross-validate one MIL config and keep its head."""

    out: OutputPath = option(text="output directory")


def check(config: TrainJobConfig) -> None:
    """Check input, labels, folds and that ``out`` can be used."""
    bags, splits = experiment.check(config)
    rows = config.rows(bags)
    check_sizes(rows, splits, config.split.seed, config.learning_curve)
    check_stage(config.out, STAGE, experiment_recipe.recipe(config, bags))


def run(config: TrainJobConfig) -> None:
    """Cross-validate one MIL config and keep its head."""
    bags, splits = experiment.load(config)
    recipe = experiment_recipe.recipe(config, bags)
    with open_stage(
        config.out, STAGE, recipe, config.model_dump(mode="json")
    ) as manifest:
        _run(config, bags, splits, manifest)


def _run(
    config: TrainJobConfig, bags: Bags, splits: list[Split], manifest: Manifest
) -> None:
    store = config.runtime.open_store(config.out)  # before work that it is to record
    for note in experiment.notes(config, bags):
        print(f"train: {note}", flush=True)
    write_left_out("train", config.out, bags.failures)
    folder = config.out / RESULT
    metrics = result_files.read_metrics(folder)
    if metrics:
        print(f"train: {folder} is already done", flush=True)
    else:
        experiment_result.write_folds(config.out / "folds.parquet", bags, splits)
        metrics = experiment.run(config, bags, splits, folder, _say)
    train_on_fewer("train", config, config, bags, splits, folder)
    head = folder / result_files.HEAD_FOLDER
    keep_decision(head, config.decision, config, folder, head, bags)
    _report(config, store, metrics, bags, folder, manifest)


def _say(done: int, total: int) -> None:
    print(f"train: {done}/{total} models", flush=True)


def _report(
    config: TrainJobConfig,
    store: Store,
    metrics: dict[str, float],
    bags: Bags,
    folder: Path,
    manifest: Manifest,
) -> None:
    name = bags.kind.chooses
    title = bags.kind.titles[name]
    for part in ("val", "test"):
        if f"{part}_{name}_mean" in metrics:
            value, low, high = (
                metrics[f"{part}_{name}_{end}"] for end in ("mean", "ci_low", "ci_high")
            )
            print(f"train: {part} {title} {value:.3f} ({low:.3f} to {high:.3f})")
    written = write_summary("train", config, config, folder, config.decision)
    warnings = experiment.warnings(config, metrics)
    for warning in [*warnings, *pooling_notes(metrics, bags.kind.titles)]:
        print(f"train: warning: {warning}")
    print(f"train: head in {folder / result_files.HEAD_FOLDER}", flush=True)
    # Another recipe trained in the same folder is another run.
    key = f"{config.out} {manifest.digest}"
    if config.learning_curve:
        key += f" {list(config.learning_curve)}"
    if store.find_run("training_out", key) is None:
        _log(config, store, metrics, bags, {"training_out": key}, written)
    print(f"train: {store.view_command()}", flush=True)


def _log(
    config: TrainJobConfig,
    store: Store,
    metrics: dict[str, float],
    bags: Bags,
    tags: dict[str, str],
    written: Sequence[Path],
) -> None:
    warnings = experiment.warnings(config, metrics)
    tags |= {"embeddings_digest": bags.digest, "intervals": bags.kind.interval_method}
    tags |= {"warnings": " ".join(warnings)} if warnings else {}
    params = flatten(config.model_dump(mode="json", exclude={"out", "runtime"}))
    folder = config.out / RESULT
    with tempfile.TemporaryDirectory() as scratch:
        run = describe_result(
            folder, metrics, config.out.name, params, Path(scratch), config
        )
        artifacts = [*run.artifacts, folder / result_files.HEAD_FOLDER]
        artifacts += written
        run_id = store.log_run(
            run.name,
            params,
            run.metrics,
            tags,
            artifacts,
            course=Course(run.times, run.curve),
        )
    log_inputs(store, run_id, config.inputs(bags))
