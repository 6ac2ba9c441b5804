"""Apply a saved head to new slides: one unit per bag, its scores in a shard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._decisions import DECISIONS
from mshisto_ray.jobs._predict_config import (
    PredictConfig,
    embedding_paths,
    read_predict_cohort,
)
from mshisto_ray.jobs._predict_report import PredictReport
from mshisto_ray.jobs._predict_summary import about_decisions, summary
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.mil.head import Head, head_digest, load_head
from mshisto_ray.prediction.bags import make_bags, trained_on_notes
from mshisto_ray.prediction.labels import find_truth
from mshisto_ray.prediction.result import (
    METRICS,
    PREDICTIONS,
    SUBGROUPS,
    PredictionSummary,
    find_failures,
    find_predicted,
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
from mshisto_ray.reporting.decisions import save_decisions
from mshisto_ray.reporting.drift import about_drift
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.tracking import ResultRun, fetch_model

STAGE = "predictions"
SUMMARY = "summary.md"


def check(config: PredictConfig) -> None:
    """Check head, embeddings, cohort and that ``out`` can be used."""
    config = _with_folder(config)
    head, embeddings = _open(config)
    if config.subgroups and not head.kind.of_classes:
        raise InputError(
            f"subgroups: metrics by subgroup are those of classes, and the head's "
            f"target is {head.kind.kind}: give subgroups=[]"
        )
    cohort = read_predict_cohort(config)
    make_bags(head, cohort)
    check_stage(config.out, STAGE, _recipe(head, embeddings, config))


def run(config: PredictConfig) -> None:
    """Predict new slides with a saved head."""
    if (found := _with_folder(config)) != config:
        say(f"predict: {config.head} is {found.head}")
    config = found
    head, embeddings = _open(config)
    cohort = read_predict_cohort(config)
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


def _run(
    config: PredictConfig,
    head: Head,
    embeddings: list[EmbeddingDirectory],
    cohort: Cohort,
    bags: list[Bag],
) -> None:
    record = config.runtime.result_run(config.out)
    pending = [bag.as_unit() for bag in bags if not _is_done(config, bag, embeddings)]
    if pending:
        record.open()
    stage = UnitStage(
        "predict",
        "bags",
        config.out,
        len(bags),
        pending,
        lambda: _collect(config.out, bags),
        lambda found, progress: _report(
            config, record, head, cohort, bags, found, embeddings[0].fingerprints
        ),
    )
    truth = find_truth(head, cohort, bags) if config.tiles else {}
    paths = embedding_paths(config, head)
    work = PredictWork(config.head, paths, config.tiles, config.out, truth)
    make = on_workers(make_predictor, lambda threads: (work, threads), config.runtime)
    run_units([stage], make, config.runtime.max_failures)


def _collect(out: Path, bags: list[Bag]) -> Collected:
    failures, predicted = find_failures(out, bags), find_predicted(out, bags)
    return Collected(failures, len(bags) - len(predicted), len(bags))


def _open(config: PredictConfig) -> tuple[Head, list[EmbeddingDirectory]]:
    head = load_head(config.head)
    directories = [EmbeddingDirectory(path) for path in embedding_paths(config, head)]
    if head.encoder is None or head.scale is None:
        raise InputError(
            f"{config.head}: was trained on a bag table, not on embeddings; there are "
            "no tiles to apply it to"
        )
    if "views" in head.encoder:
        raise InputError(
            f"{config.head}: was trained on views of several embeddings, which predict "
            "does not join yet: take a head of one directory of embeddings"
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
    record: ResultRun,
    head: Head,
    cohort: Cohort,
    bags: list[Bag],
    found: Collected,
    fingerprints: Mapping[str, str],
) -> None:
    """Write the results, print them, and log them to MLflow."""
    copies = trained_on_notes(head, cohort, fingerprints)
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
    whose = "external" if _is_external(head, bags) else "out-of-fold"
    logged = {"bags": outcome.num_predicted, "failures": failures}
    logged |= _say_metrics(outcome, whose)
    notes = [*copies, *outcome.notes]
    for note in notes:
        say(f"  {note}")
    written = _write_summary(config, head, outcome, bags, whose, notes)
    report = PredictReport(config, config.out.parent, notes)
    written += write_report("predict", config, config.out, report)
    artifacts = [config.out / name for name in (PREDICTIONS, METRICS)]
    artifacts += [config.out / SUBGROUPS] if config.subgroups else []
    artifacts += written
    tags = {"head": head_digest(config.head), "intervals": head.kind.interval_method}
    # The labels may be others than those of an earlier run.
    key = f"{found.digest} {sorted(logged.items())}"
    settings = config.model_dump(mode="json")
    record.log(key, "predict", settings, logged, tags, artifacts)


def _say_metrics(outcome: PredictionSummary, whose: str) -> dict[str, float]:
    """Print metrics, drift and subgroups; return what MLflow keeps of them."""
    logged: dict[str, float] = {}
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
    if outcome.decisions:
        each = {**outcome.decisions.shares, **outcome.decisions.errors}
        known = {k: v.value for k, v in each.items() if not math.isnan(v.value)}
        logged |= {f"decision_{name}": value for name, value in known.items()}
    if outcome.drift:
        say(f"  {about_drift(outcome.drift)}")
        logged |= {"drift_p": outcome.drift.cohort, "drift_apart": outcome.drift.apart}
    for group in outcome.subgroups:
        say(f"  {group.line}")
    return logged


def _write_summary(
    config: PredictConfig,
    head: Head,
    outcome: PredictionSummary,
    bags: list[Bag],
    whose: str,
    notes: list[str],
) -> list[Path]:
    """Write summary.md and the picture of decisions; return their paths."""
    seen = sum(bag.patient_id in head.folds for bag in bags)
    for line in about_decisions(head, outcome, seen):
        say(f"  {line}")
    path, picture = config.out / SUMMARY, config.out / DECISIONS
    write_text(path, summary(head, outcome, whose, notes, seen))
    if outcome.decisions is None:
        picture.unlink(missing_ok=True)
        return [path]
    save_decisions(picture, outcome.decisions)
    return [path, picture]
