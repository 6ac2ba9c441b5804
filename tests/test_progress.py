"""The progress line, on a clock of the test's own."""

import io
import sys

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


def beats(counts, clock, *states):
    """Let the watching thread see (seconds later, tiles of unfinished units)."""
    todo = list(states)
    now = [0]

    def wait(seconds):
        if not todo:
            return True
        later, now[0] = todo.pop(0)
        clock[0] += later
        return False

    counts._watch(lambda: now[0], wait)


def test_a_long_unit_is_not_silent(clock, capsys):
    counts = Progress("embed", {"a": 1, "b": 1}, 1000, 0.5)
    beats(counts, clock, (10, 0), (6, 40), (5, 60), (15, 70), (16, 70))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "embed: 0/2 units, 40 tiles, 40 of them in unfinished units",
        "embed: 0/2 units, 70 tiles, 70 of them in unfinished units, "
        "1.5 tiles/s, 0:10:20 left",
    ]
    clock[0] += 8
    counts.add(row("a", tiles=500, unit_s=60.0))
    beats(counts, clock, (16, 25))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("embed: 1/2 units, 525 tiles, 25 of them in unfinished")
    assert "tiles/s, " in last


def test_short_units_are_counted_alone(clock, capsys):
    counts = Progress("tile", {"a": 1, "b": 1}, 0, 0.5)
    beats(counts, clock, (4, 0), (30, 0))
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_and_the_last_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    counts = Progress("embed", {"a": 1, "b": 1}, 20, 0.5)
    with counts.watching(lambda: 0):
        counts.add(row("a"))
        counts.add(row("b"))
    shown = terminal.getvalue()
    assert "embed:  50%|" in shown and "10/20 tiles, 1/2 units, 0 failures" in shown
    last = shown.splitlines()[-1]
    assert last.startswith("embed: 2/2 units, 2/2 slides, 20 tiles")
