"""Faults in a unit of each of the five jobs: the run goes on, and the next mends it."""

import errno
import os

import pyarrow.parquet as pq
import pytest
from fixtures.chain import (
    CALLED,
    JOBS,
    assert_mended,
    assert_same,
    break_first,
    failures,
    run,
)

from mshisto_ray.config import InputError, TooManyFailuresError
from mshisto_ray.tiling import unit as tile_unit


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
    assert "s1" in failure["message"] and "mshisto embed" in failure["message"]
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


@pytest.mark.parametrize("num", [4, 30])
def test_a_storage_that_fails_most_units_is_blamed_and_not_the_slides(
    plain, tmp_path, monkeypatch, num
):
    """Of many slides the run stops early; the same command makes what is missing."""
    names = [f"s{i}.tiff" for i in range(num)]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "cohort.csv").write_text("\n".join(["path", *names]) + "\n")
    calls = []

    def unreachable(*args):
        calls.append(args)
        raise TimeoutError(errno.ETIMEDOUT, "the storage does not answer")

    monkeypatch.setattr(tile_unit, "tile_slide", unreachable)
    with pytest.raises(TooManyFailuresError, match="suspect the storage") as error:
        run(tmp_path, "tile", tmp_path / "out")
    assert str(error.value).endswith("the same command resumes")
    assert len(calls) == min(num, 20)
    assert set(failures(tmp_path / "out")) == {("tile", "transient", "TimeoutError")}


@pytest.mark.parametrize("job", JOBS)
def test_results_that_could_not_be_logged_are_not_made(plain, chain, job, tmp_path):
    """The store is opened before the first unit, not after days of work."""
    with pytest.raises(InputError, match="mlflow"):
        run(
            chain, job, tmp_path / "out", mlflow={"uri": "sqlite:////proc/no/mlflow.db"}
        )
    found = [
        p for p in (tmp_path / "out").rglob("*") if p.suffix in (".parquet", ".h5")
    ]
    assert not found
