"""The progress line, on a clock of the test's own."""

import pytest

from mshisto_ray import progress
from mshisto_ray.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def row(slide, tiles=10, **more):
    return {"slide_id": slide, "tiles": tiles, "failures": 0, "reasons": [], **more}


def test_start_up_of_the_workers_is_no_part_of_the_pace(clock, capsys):
    """Four units of 7 s each after half a minute until workers run."""
    counts = Progress("embed", dict.fromkeys("abcd", 1), 40, 0.5)
    clock[0] += 30 + 7
    counts.add(row("a", unit_s=7.0))
    assert "10 tiles, 1 tiles/s, 0 failures, 0:00:21 left" in counts.line()
    for slide in "bc":
        clock[0] += 7
        counts.add(row(slide, unit_s=7.0))
    assert "0:00:07 left" in counts.line()
    assert counts.seconds == 51
    clock[0] += 7
    counts.add(row("d", unit_s=7.0))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("embed: 4/4 units, 4/4 slides, 40 tiles, ")
    assert last.endswith("0:00:00 left")


def test_workers_that_run_together_share_the_pace(clock):
    counts = Progress("tile", dict.fromkeys("abcdefgh", 1), 0, 0.5)
    clock[0] += 20 + 10
    counts.add(row("a", unit_s=10.0))
    clock[0] += 1
    counts.add(row("b", unit_s=10.5))
    # Two in 11 s since the first began, six are left.
    assert "0:00:33 left" in counts.line()


def test_rows_without_their_seconds_count_from_the_start(clock):
    counts = Progress("tile", {"a": 1, "b": 1}, 0, 0.5)
    assert "0 tiles/s" in counts.line()
    clock[0] += 8
    counts.add(row("a"))
    assert "0:00:08 left" in counts.line()
