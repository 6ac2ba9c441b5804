"""Apply a saved head to new slides: one unit per bag, its scores in a shard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.decision.files import write_decision
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._predict_config import (
    OneHeadConfig,
    PredictConfig,
    embedding_paths,
    read_predict_cohort,
)
from mshisto_ray.jobs._predict_inputs import open_inputs
from mshisto_ray.jobs._predict_report import PredictReport
from mshisto_ray.jobs._predict_summary import say_metrics, write_summary
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.bags import make_bags, trained_on_notes
from mshisto_ray.prediction.joined import write_joined
from mshisto_ray.prediction.labels import find_truth
from mshisto_ray.prediction.result import (
    METRICS,
    PREDICTIONS,
    SUBGROUPS,
    find_failures,
    find_predicted,
    write_result,
)
from mshisto_ray.prediction.several import make_predictors, unit_name
from mshisto_ray.prediction.unit import (
    Bag,
    PredictWork,
    made_from,
    shard_path,
)
from mshisto_ray.progress import say
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.head_files import head_digest
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.tracking import ResultRun, fetch_model

STAGE = "predictions"


def check(config: PredictConfig) -> None:
    """Check heads, embeddings, cohort and that ``out`` can be used."""
    for part in config.parts().values():
        _check_one(_with_folder(part, config.out))


def run(config: PredictConfig) -> None:
    """Predict new slides with a saved head, or with several in one pass."""
    parts: dict[str, OneHeadConfig] = {}
    for name, part in config.parts().items():
        parts[name] = _with_folder(part, config.out)
        if parts[name] != part:
            say(f"predict: {part.head} is {parts[name].head}")
        _check_one(parts[name])  # all before the first is made
    with contextlib.ExitStack() as stack:
        made = {
            name: stack.enter_context(_opened(part, config.out))
            for name, part in parts.items()
        }
        works = {
            name: (work, {unit_name(unit) for unit in stage.pending})
            for name, (stage, work) in made.items()
        }
        stages = [stage for stage, _ in made.values()]
        runtime = config.runtime
        make = on_workers(make_predictors, lambda threads: (works, threads), runtime)
        run_units(stages, make, runtime.max_failures)
        if config.heads:
            path = write_joined(config.out, list(parts))
            say(f"predict: {len(parts)} heads side by side -> {path}")


def _check_one(config: OneHeadConfig) -> None:
    head, embeddings = open_inputs(config)
    if config.subgroups and not head.kind.of_classes:
        raise InputError(
            f"subgroups: metrics by subgroup are those of classes, and the head's "
            f"target is {head.kind.kind}: give subgroups=[]"
        )
    make_bags(head, read_predict_cohort(config))
    check_stage(config.out, STAGE, _recipe(head, embeddings, config))


def _with_folder(config: OneHeadConfig, out: Path) -> OneHeadConfig:
    """The config with a registered head's folder in place of its name.

    ``out``: of the job, beside which its MLflow store is.
    """
    folder = fetch_model(config.head, config.runtime.store_uri(out))
    return config.model_copy(update={"head": folder})


@contextlib.contextmanager
def _opened(
    config: OneHeadConfig, out: Path
) -> Iterator[tuple[UnitStage, PredictWork]]:
    """The stage of one head, whose directory is held, and the work of its units."""
    head, embeddings = open_inputs(config)
    record = config.runtime.result_run(out, config.out)
    cohort = read_predict_cohort(config)
    bags, notes = make_bags(head, cohort)
    say_cohort("predict", cohort)
    for note in notes:
        say(f"predict: {note}")
    recipe = _recipe(head, embeddings, config)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        if head.of_tiles:  # for detect, which reads this folder and no head
            write_decision(config.out, head.of_tiles)
        yield (
            _make_stage(config, record, head, embeddings, cohort, bags),
            PredictWork(
                config.head,
                embedding_paths(config, head),
                config.tiles,
                config.out,
                find_truth(head, cohort, bags) if config.tiles else {},
            ),
        )


def _make_stage(
    config: OneHeadConfig,
    record: ResultRun,
    head: Head,
    embeddings: list[EmbeddingDirectory],
    cohort: Cohort,
    bags: list[Bag],
) -> UnitStage:
    pending = [bag.as_unit() for bag in bags if not _is_done(config, bag, embeddings)]
    if pending:
        record.open()
    return UnitStage(
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


def _collect(out: Path, bags: list[Bag]) -> Collected:
    failures, predicted = find_failures(out, bags), find_predicted(out, bags)
    return Collected(failures, len(bags) - len(predicted), len(bags))


def _recipe(
    head: Head, directories: list[EmbeddingDirectory], config: OneHeadConfig
) -> dict[str, Any]:
    digests = [directory.manifest.digest for directory in directories]
    return {
        "head": head_digest(config.head),
        "embeddings": digests[0] if len(set(digests)) == 1 else digests,
        "heat_maps": config.tiles is not None,
    }


def _is_done(
    config: OneHeadConfig, bag: Bag, embeddings: list[EmbeddingDirectory]
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
    config: OneHeadConfig,
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
    logged |= say_metrics(outcome, whose)
    notes = [*copies, *outcome.notes]
    for note in notes:
        say(f"  {note}")
    written = write_summary(config.out, head, outcome, bags, whose, notes)
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
