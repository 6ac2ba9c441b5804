"""Faults in a unit of each of the five jobs: the run goes on, and the next mends it."""

import errno
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import TooManyFailuresError
from mshisto_ray.embedding import unit as embed_unit
from mshisto_ray.exchange import export_unit, import_unit
from mshisto_ray.exchange.h5 import read_h5
from mshisto_ray.jobs import embed, export_h5, import_h5, predict, tile
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate, plan_splits
from mshisto_ray.mil.head import save_head
from mshisto_ray.mil.input.bags import read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.prediction import unit as predict_unit
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.tiling import unit as tile_unit

JOBS = ("tile", "embed", "export", "import", "predict")
# A function that each unit of a job calls once, and the one that records the unit.
CALLED = {
    "tile": (tile_unit, "tile_slide", "write_shard"),
    "embed": (embed_unit, "embed_chunk", "write_shard"),
    "export": (export_unit, "to_features", "write_h5"),
    "import": (import_unit, "import_slide", "write_shard"),
    "predict": (predict_unit, "predict", "write_shard"),
}


@pytest.fixture(scope="module")
def chain(plainly, tmp_path_factory, write_labelled_slides):
    """All five jobs on four slides, undisturbed."""
    folder = tmp_path_factory.mktemp("chain")
    write_labelled_slides(folder, 4, 560)
    with plainly():
        for job in JOBS:
            if job == "predict":
                train_head(folder)
            run(folder, job, folder / job)
    return folder


def run(chain, job, out):
    runtime = {"runtime": {"max_failures": 0.5, "retry_failures": True}}
    cohort = {"cohort": str(chain / "cohort.csv")} | runtime
    embeddings = {"embeddings": str(chain / "embed")}
    given = {
        "tile": (tile, tile.TileConfig, cohort | {"tile_px": 64}),
        "embed": (
            embed,
            embed.EmbedConfig,
            {"tiles": str(chain / "tile"), "encoder": {"name": "colour_stats"}}
            | runtime,
        ),
        "export": (export_h5, export_h5.ExportConfig, embeddings),
        "import": (
            import_h5,
            import_h5.ImportConfig,
            {"features": str(chain / "export"), "encoder": "colours", "mpp": 0.5}
            | {"tile_px": 64, **cohort},
        ),
        "predict": (
            predict,
            predict.PredictConfig,
            {"head": str(chain / "head"), **embeddings, **cohort},
        ),
    }
    module, kind, keys = given[job]
    module.run(configs.validate(kind, {"out": str(out), **keys}))


def train_head(folder):
    target = TargetConfig(column="label")
    source = InputConfig(embeddings=folder / "embed", cohort=folder / "cohort.csv")
    bags = read_bags(source, target, None, CacheConfig(dir=folder / "cache"))
    raw = {"hidden": [4], "epochs": 1, "early_stopping": None}
    training = configs.validate(TrainConfig, raw)
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    result = cross_validate(bags, splits, training, torch.device("cpu"))
    about = {"unit": "slide", "target": target.model_dump(mode="json")}
    save_head(folder / "head", result, bags, training, about)


def break_first(patch, module, name, error, times):
    """The first calls of a function raise."""
    whole, left = getattr(module, name), [error] * times

    def broken(*args, **keys):
        if left:
            raise left.pop()
        return whole(*args, **keys)

    patch.setattr(module, name, broken)


def assert_same(job, one, two):
    names = {
        path.relative_to(folder)
        for folder in (one, two)
        for pattern in ("shards/**/*.parquet", "*.parquet", "*.h5")
        for path in folder.glob(pattern)
    } - {path.relative_to(two) for path in two.glob("failures.parquet")}
    assert len(names) >= 4
    for name in names:
        if name.suffix == ".h5":
            for key in ("x", "y", "values"):
                found = (getattr(read_h5(out / name), key) for out in (one, two))
                np.testing.assert_array_equal(*found)
            continue
        first, second = (pq.read_table(out / name) for out in (one, two))
        assert first.column_names == second.column_names
        for column in first.column_names:
            np.testing.assert_array_equal(
                first[column].to_pandas().to_list(),
                second[column].to_pandas().to_list(),
                f"{name} {column}",
            )


def assert_mended(chain, job, out):
    """The same command again leaves what an undisturbed run makes."""
    run(chain, job, out)
    assert failures(out) == []
    assert_same(job, out, chain / job)


def failures(out):
    table = pq.read_table(out / "failures.parquet").to_pylist()
    return [(row["stage"], row["kind"], row["error"]) for row in table]


@pytest.mark.parametrize("job", JOBS)
def test_a_file_that_cannot_be_reached_costs_its_unit(
    plain, chain, job, tmp_path, monkeypatch
):
    module, called, _ = CALLED[job]
    with monkeypatch.context() as patch:
        error = TimeoutError(errno.ETIMEDOUT, "the storage does not answer")
        break_first(patch, module, called, error, times=1)
        if job == "export":  # which has no shard to record it in
            with pytest.raises(TooManyFailuresError, match="the same command resumes"):
                run(chain, job, tmp_path)
        else:
            run(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "transient", "TimeoutError")]
    assert_mended(chain, job, tmp_path)


@pytest.mark.parametrize("job", ["tile", "embed", "import", "predict"])
def test_an_error_that_nobody_expected_costs_its_unit(
    plain, chain, job, tmp_path, monkeypatch
):
    module, called, _ = CALLED[job]
    with monkeypatch.context() as patch:
        break_first(patch, module, called, IndexError("offsets"), times=2)
        run(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "crash", "IndexError")]
    assert_mended(chain, job, tmp_path)


@pytest.mark.parametrize("job", ["tile", "embed", "import"])
def test_a_unit_whose_workers_hung_is_retried_and_not_called_damaged(
    plain, chain, job, tmp_path, monkeypatch
):
    begin, hangs = Attempts.begin, [1, 2]

    def begin_after_hangs(attempts):
        while hangs:
            begin(attempts)
            attempts.record_hang()  # as the watchdog does that ends the process
            hangs.pop()
        return begin(attempts)

    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "begin", begin_after_hangs)
        run(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "hung", "Hung")]
    assert_mended(chain, job, tmp_path)


def test_a_heat_map_that_hung_is_drawn_by_the_next_run(chain, tmp_path):
    """And is not called a crash; the prediction is kept."""
    work = predict_unit.PredictWork(
        chain / "head", (chain / "embed",), chain / "tile", tmp_path
    )
    bag = predict_unit.Bag("s1", "s1", ["s1"])
    for _ in range(2):
        attempt = Attempts(tmp_path, "s1")
        attempt.begin()
        attempt.record_hang()
    row = predict_unit.make_predictor(work, 1)(bag.as_unit())
    assert row["reasons"] == [["hung", "NoHeatMap"]] and row["tiles"] > 0
    assert predict_unit.make_predictor(work, 1)(bag.as_unit())["reasons"] == []


def test_a_pipe_in_the_cohort_holds_up_nothing(plain, chain, tmp_path):
    copy = tmp_path / "chain"
    copy.mkdir()
    os.mkfifo(copy / "s1.tiff")
    for name in ("s0.tiff", "s2.tiff", "s3.tiff", "cohort.csv"):
        (copy / name).symlink_to(chain / name)
    run(copy, "tile", tmp_path / "out")
    assert failures(tmp_path / "out") == [("tile", "input", "NotAFile")]


@pytest.mark.parametrize("job", JOBS)
def test_a_full_disk_ends_in_one_line_and_is_resumed(
    plain, chain, job, tmp_path, monkeypatch
):
    module, _, written = CALLED[job]
    with monkeypatch.context() as patch:
        error = OSError(errno.ENOSPC, "No space left on device")
        break_first(patch, module, written, error, times=1)
        with pytest.raises(
            TooManyFailuresError,
            match=r"^1 \w+ could not be written \(OSError: .*No space left .*resumes$",
        ):
            run(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "transient", "OSError")]
    assert_mended(chain, job, tmp_path)


def test_a_truncated_shard_costs_its_slide(plain, chain, tmp_path):
    """Prediction from embeddings of which a file is damaged."""
    copy = tmp_path / "chain"
    copy.mkdir()
    for name in ("embed", "head"):
        (copy / name).mkdir()
        for path in (chain / name).rglob("*"):
            if path.is_file() and "mlflow" not in str(path):
                target = copy / name / path.relative_to(chain / name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    (copy / "cohort.csv").write_bytes((chain / "cohort.csv").read_bytes())
    (shard,) = (copy / "embed" / "shards" / "s1").glob("*.parquet")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    run(copy, "predict", tmp_path / "out")
    (failure,) = pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert (failure["slide_id"], failure["kind"]) == ("s1", "input")
    assert "s1" in failure["message"] and "jobs/embed.py" in failure["message"]
    shard.write_bytes(whole)
    run(copy, "predict", tmp_path / "out")
    assert_same("predict", tmp_path / "out", chain / "predict")


def test_a_deleted_overview_is_drawn_again(plain, chain, tmp_path):
    run(chain, "tile", tmp_path)
    picture = tmp_path / "overview" / "s2.png"
    before = picture.read_bytes()
    picture.unlink()
    run(chain, "tile", tmp_path)
    assert picture.read_bytes() == before
    assert_same("tile", tmp_path, chain / "tile")


def test_an_overview_that_cannot_be_drawn_costs_a_picture(
    plain, chain, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        break_first(patch, tile_unit, "draw_overview", IndexError("pixels"), times=2)
        run(chain, "tile", tmp_path)
    assert failures(tmp_path) == [("tile", "crash", "IndexError")]
    assert len(list((tmp_path / "overview").iterdir())) == 3
    run(chain, "tile", tmp_path)
    assert failures(tmp_path) == []
    assert_same("tile", tmp_path, chain / "tile")
