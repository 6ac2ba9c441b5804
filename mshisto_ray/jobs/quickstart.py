"""The whole pipeline on synthetic slides with a known truth, in one Ray session."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from mshisto_ray import config as configs
from mshisto_ray.config import Config, OutputPath, option
from mshisto_ray.distributed.session import connect
from mshisto_ray.evaluation.localisation import localise
from mshisto_ray.jobs import embed, predict, sweep, tile
from mshisto_ray.jobs._phantom import write_slides, write_table
from mshisto_ray.learning.comparison import compare
from mshisto_ray.learning.predictions import read_predictions
from mshisto_ray.mil import experiment
from mshisto_ray.mil import sweep as points
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
    """Make slides, tile, embed, sweep six poolings, predict new slides."""

    out: OutputPath = option(Path("quickstart"), "folder; an unfinished one is resumed")
    num_patients: int = option(40, "patients to train on, two slides each", ge=16)
    new_patients: int = option(8, "held-out patients to predict", ge=4)
    witness_rate: float = option(
        0.03, "share of a positive slide's tiles with the sign", unit="share", gt=0
    )
    seed: int = option(0, "of the slides, the folds and the training", ge=0)


def run(config: QuickstartConfig) -> None:
    """Make slides, tile, embed, sweep six poolings, predict new slides."""
    started = time.monotonic()
    out = config.out
    with connect():
        _write_phantom(config)
        # The planted sign has a colour of its own here, so colour statistics see it:
        # no network, no download.
        _tile_and_embed(out)
        sweeping = _sweep_config(config)
        sweep.run(sweeping)
        gated = _folder(sweeping, "gated_attention")
        _step("predict new patients with the gated attention's models; heat maps")
        predict.run(_predict_config(out, gated / experiment.HEAD_FOLDER))
    _conclude(out, gated, _folder(sweeping, "embedding_mean"))
    say(f"\nDone in {time.monotonic() - started:.0f} s. Look at:")
    store = sweeping.runtime.open_store(out)
    for what, where in (
        ("what was tiled", out / "tiles" / "contact_sheet.png"),
        ("the ranking", out / "sweep" / "summary.md"),
        ("where it looks", out / "predictions" / "heatmaps"),
    ):
        say(f"  {what}: {where}")
    say(f"  all runs, compared: {store.view_command()}")


def _step(text: str) -> None:
    say(f"\n== {text}")


def _runtime(out: Path) -> dict[str, dict[str, str]]:
    """All jobs log to one store."""
    uri = f"sqlite:///{out / 'mlflow.db'}"
    return {"mlflow": {"uri": uri, "experiment": "quickstart"}}


def _write_phantom(config: QuickstartConfig) -> None:
    """All slides of one phantom; the last patients are kept for prediction."""
    folder = config.out / "slides"
    phantom = PhantomConfig(
        num_patients=config.num_patients + config.new_patients,
        size=2048,
        witness_rate=config.witness_rate,
        colour_matched=False,
        seed=config.seed,
    )
    recipe = phantom.model_dump(mode="json") | {"new_patients": config.new_patients}
    with open_stage(folder, "phantom", recipe, {}):
        if not (folder / "new.csv").is_file():
            _step(f"write {phantom.num_slides} phantom slides -> {folder}")
            _write_tables(config, folder, write_slides(phantom, folder))


def _write_tables(
    config: QuickstartConfig, folder: Path, rows: list[dict[str, str]]
) -> None:
    patients = sorted({row["patient_id"] for row in rows})
    new = set(patients[config.num_patients :])
    write_table(rows, folder / "all.csv")
    train = [row for row in rows if row["patient_id"] not in new]
    write_table(train, folder / "cohort.csv")
    write_table([row for row in rows if row["patient_id"] in new], folder / "new.csv")


def _tile_and_embed(out: Path) -> None:
    _step("tile at 0.5, 1 and 2 um/px")
    raw = {"cohort": str(out / "slides" / "all.csv"), "out": str(out / "tiles")}
    raw |= {"tile_px": 64, "runtime": _runtime(out)}
    tile.run(configs.validate(tile.TileConfig, raw))
    _step("embed every tile: colour statistics")
    raw = {"tiles": str(out / "tiles"), "out": str(out / "embeddings")}
    raw |= {"encoder": {"name": "colour_stats"}, "runtime": _runtime(out)}
    embed.run(configs.validate(embed.EmbedConfig, raw))


def _sweep_config(config: QuickstartConfig) -> sweep.SweepConfig:
    _step("sweep six poolings, with and without noise on the embeddings")
    out = config.out
    raw = {
        "embeddings": str(out / "embeddings"),
        "cohort": str(out / "slides" / "cohort.csv"),
        "target": {"column": _LABEL},
        "scale": 0.5,
        "split": {"folds": 4, "seed": config.seed},
        "hidden": [],
        "optimiser": {"lr": 3e-3, "schedule": "constant", "warmup_steps": 0},
        "epochs": 80,
        "batch_size": 8,
        "early_stopping": None,
        "seed": config.seed,
        "axes": {
            "pooling": [{"name": name} for name in _POOLINGS],
            "noise.sigma": [0.0, 0.1],
        },
        "out": str(out / "sweep"),
        "runtime": {"cache": {"dir": str(out / "cache")}, **_runtime(out)},
    }
    return configs.validate(sweep.SweepConfig, raw)


def _folder(config: sweep.SweepConfig, pooling: str) -> Path:
    """Results of a pooling without noise."""
    found, _ = points.check(points.expand(config, config.axes), config.select)
    (digest,) = (
        digest
        for digest, point in found.items()
        if point.config.pooling.name == pooling
        and not point.config.noise.parameters["sigma"]
    )
    return points.folder(config.out, digest)


def _predict_config(out: Path, head: Path) -> predict.PredictConfig:
    raw = {
        "head": str(head),
        "embeddings": str(out / "embeddings"),
        "cohort": str(out / "slides" / "new.csv"),
        "tiles": str(out / "tiles"),
        "annotation": _SIGN,
        "out": str(out / "predictions"),
        "runtime": _runtime(out),
    }
    return configs.validate(predict.PredictConfig, raw)


def _conclude(out: Path, gated: Path, mean: Path) -> None:
    """Print the ranking, and how well the planted tiles were found."""
    _step("ranking")
    say((out / "sweep" / "summary.md").read_text())
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
