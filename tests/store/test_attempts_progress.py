"""How many tiles the attempts at unfinished units have made."""

import os

from mshisto_ray.store.attempts import Attempts, forgive_last, tiles_at_work


def test_the_latest_attempt_at_each_unit_counts(tmp_path):
    assert tiles_at_work(tmp_path) == 0
    first, second, other = (Attempts(tmp_path, unit) for unit in ("a.0", "a.0", "b.1"))
    first.begin()
    first.record(300)
    markers = list((tmp_path / "attempts").iterdir())
    os.utime(markers[0], ns=(0, 0))  # its process ended long ago
    assert second.begin() == 2
    other.begin()
    assert tiles_at_work(tmp_path) == 0
    second.record(64)
    other.record(8)
    other.record(16)
    assert tiles_at_work(tmp_path) == 64 + 16
    other.end()
    assert tiles_at_work(tmp_path) == 64
    forgive_last(tmp_path)
    assert tiles_at_work(tmp_path) == 300


def test_a_marker_that_the_watchdog_renamed_is_not_made_again(tmp_path):
    attempt = Attempts(tmp_path, "a.0")
    attempt.begin()
    attempt.record_hang()
    attempt.record(5)
    (marker,) = (tmp_path / "attempts").iterdir()
    assert marker.name.endswith("-hung") and not marker.read_text()
