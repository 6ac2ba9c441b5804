"""A study on synthetic slides with a known truth: the steps of ``run``."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from mshisto_ray import config as configs
from mshisto_ray.config import Config, OutputPath, option
from mshisto_ray.distributed.session import one_session
from mshisto_ray.evaluation.localisation import localise
from mshisto_ray.jobs import predict
from mshisto_ray.jobs._contact_sheet import page_path
from mshisto_ray.jobs._phantom import write_slides, write_table
from mshisto_ray.jobs._report import report_path
from mshisto_ray.jobs._study import check_study, say_places, say_ranking, say_step
from mshisto_ray.jobs._study_config import RunConfig, plan_steps
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.jobs.run import train
from mshisto_ray.learning import result_files
from mshisto_ray.learning.comparison import compare
from mshisto_ray.learning.predictions import read_predictions
from mshisto_ray.learning.sweep import points
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.progress import say
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.tiles import TileDirectory

_POOLINGS = (
    "instance_max",
    "instance_mean",
    "embedding_max",
    "embedding_mean",
    "attention",
    "gated_attention",
)
_SIGN, _LABEL = "fine_sign", "label_fine"


class QuickstartConfig(Config):
    """Make slides; tile, embed, sweep six poolings, predict new slides."""

    out: OutputPath = option(Path("quickstart"), "folder; an unfinished one is resumed")
    num_patients: int = option(40, "patients to train on, a slide each", ge=16)
    new_patients: int = option(8, "held-out patients to predict", ge=4)
    witness_rate: float = option(
        0.03, "share of a positive slide's tiles with the sign", unit="share", gt=0
    )
    seed: int = option(0, "of the slides, the folds and the training", ge=0)


def run(config: QuickstartConfig) -> None:
    """Run a study on synthetic slides with a known truth, in minutes."""
    started = time.monotonic()
    out = config.out
    with one_session():
        _write_phantom(config)
        study = _study(config)
        steps = plan_steps(study)
        check_study(study, steps)
        train(study, steps)
        gated = _folder(steps.sweep, "gated_attention")
        say_step("predict new patients with the gated attention's models; heat maps")
        new, head = out / "slides" / "new.csv", gated / result_files.HEAD_FOLDER
        predict.run(steps.prediction(new, out / "predictions", head))
    say_ranking(out)
    _say_truth(out, gated, _folder(steps.sweep, "embedding_mean"))
    store = study.runtime.open_store(steps.sweep.out)
    say_places(
        time.monotonic() - started,
        [
            ("the sweep, to open in a browser", report_path(steps.sweep.out)),
            ("the new patients, likewise", report_path(out / "predictions")),
            ("what was tiled", page_path(out / "tiles", 0)),
            ("the ranking", out / "sweep" / "summary.md"),
            ("where it looks", out / "predictions" / "heatmaps"),
            ("all runs, compared", store.view_command()),
        ],
    )


def _write_phantom(config: QuickstartConfig) -> None:
    """All slides of one phantom; the last patients are kept for prediction."""
    folder = config.out / "slides"
    phantom = PhantomConfig(
        num_patients=config.num_patients + config.new_patients,
        slides_per_patient=1,
        size=2048,
        witness_rate=config.witness_rate,
        colour_matched=False,
        seed=config.seed,
    )
    recipe = phantom.model_dump(mode="json") | {"new_patients": config.new_patients}
    with open_stage(folder, "phantom", recipe, {}):
        if not (folder / "new.csv").is_file():
            say_step(f"write {phantom.num_slides} phantom slides -> {folder}")
            _write_tables(config, folder, write_slides(phantom, folder))


def _write_tables(
    config: QuickstartConfig, folder: Path, rows: list[dict[str, str]]
) -> None:
    patients = sorted({row["patient_id"] for row in rows})
    new = set(patients[config.num_patients :])
    train = [row for row in rows if row["patient_id"] not in new]
    write_table(train, folder / "cohort.csv")
    write_table([row for row in rows if row["patient_id"] in new], folder / "new.csv")


def _study(config: QuickstartConfig) -> RunConfig:
    out, slides = config.out, config.out / "slides"
    raw = {
        "cohort": str(slides / "cohort.csv"),
        "new_cohort": str(slides / "new.csv"),
        "out": str(out),
        "target": {"column": _LABEL},
        # The planted sign has a colour of its own here, so colour statistics see it:
        # no network, no download.
        "encoder": {"name": "colour_stats"},
        "tile_px": 64,
        "split": {"folds": 4, "seed": config.seed},
        "axes": {
            "pooling": [{"name": name} for name in _POOLINGS],
            "noise.sigma": [0.0, 0.1],
        },
        "sweep": {
            "scale": 0.5,
            "hidden": [],
            # A high rate and few epochs for speed; weight decay spreads attention over
            # more of the tiles that decide.
            "optimiser": {
                "lr": 5e-3,
                "weight_decay": 1e-3,
                "schedule": "constant",
                "warmup_steps": 0,
            },
            "epochs": 40,
            "batch_size": 4,
            "early_stopping": None,
            "seed": config.seed,
            "runtime": {"cache": {"dir": str(out / "cache")}},
        },
        "predict": {"annotation": _SIGN},
        "runtime": {"mlflow": {"experiment": "quickstart"}},
    }
    return configs.validate(RunConfig, raw)


def _folder(config: SweepConfig, pooling: str) -> Path:
    """Results of a pooling without noise."""
    found, _ = points.check(points.expand(config, config.axes), config.chosen_by)
    configs_of = {digest: point.config for digest, point in found.items()}
    (digest,) = (
        digest
        for digest, given in configs_of.items()
        if isinstance(given, ExperimentConfig)
        and given.pooling.name == pooling
        and not given.noise.parameters["sigma"]
    )
    return sweep_results.folder(config.out, digest)


def _say_truth(out: Path, gated: Path, mean: Path) -> None:
    """Print how much attention gains, and how well it finds the planted tiles."""
    first, second = (
        read_predictions(folder / "predictions.parquet") for folder in (gated, mean)
    )
    found = compare(first, second)
    gap = found.difference
    say(
        f"gated attention against embedding mean, test AUROC: {found.first:.3f} - "
        f"{found.second:.3f} = {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] "
        "(95 %, the same patients)"
    )
    shards = sorted((out / "predictions" / "shards").glob("*.parquet"))
    where = localise(shards, TileDirectory(out / "tiles"), _SIGN, None)
    values = np.array(list(where["attention_auroc_0.5"].values()))
    say(
        "attention against the planted tiles, AUROC within a slide: "
        f"{values.mean():.3f} (least {values.min():.3f}, {len(values)} new positive "
        "slides)"
    )
