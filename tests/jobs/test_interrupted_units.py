"""Units whose process hung, ended or was stopped: none is blamed for what it is not."""

import pytest
from fixtures.chain import (
    CALLED,
    JOBS,
    assert_mended,
    break_first,
    failures,
    run,
)

from mshisto_ray.prediction import unit as predict_unit
from mshisto_ray.store.attempts import Attempts


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


@pytest.mark.parametrize("job", ["tile", "embed", "import"])
def test_a_unit_that_ends_its_workers_is_named_and_may_be_retried(
    plain, chain, job, tmp_path, monkeypatch
):
    """As by os._exit, a segfault, or the kernel for lack of memory: no more is left
    of an attempt than its marker."""
    begin, ends = Attempts.begin, [1] * 8

    def begin_after_ends(attempts):
        while ends:
            begin(attempts)
            ends.pop()
        return begin(attempts)

    with monkeypatch.context() as patch:
        patch.setattr(Attempts, "begin", begin_after_ends)
        run(chain, job, tmp_path)
    assert failures(tmp_path) == [(job, "crash", "Crash")]
    assert_mended(chain, job, tmp_path)


@pytest.mark.parametrize("job", JOBS)
def test_five_stops_blame_no_slide(plain, chain, job, tmp_path, monkeypatch):
    """Ctrl-C always at the same unit, then the same command to the end."""
    module, called, _ = CALLED[job]
    for _ in range(5):
        with monkeypatch.context() as patch:
            break_first(patch, module, called, KeyboardInterrupt(), times=1)
            with pytest.raises(KeyboardInterrupt):
                run(chain, job, tmp_path)
        assert not list(tmp_path.glob("shards/**/*.parquet"))
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
