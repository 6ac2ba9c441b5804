"""What a unit's exceptions become."""

import pickle

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.exchange.h5 import H5Error
from mshisto_ray.slides import SlideError
from mshisto_ray.store.attempts import Attempts, forgive_last
from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.guard import AttemptLostError, Guard, count_row, guarded


def fail_with(error):
    calls = []

    def work():
        calls.append(1)
        raise error

    return Guard("embed", "s", 4).make(work), len(calls)


@pytest.mark.parametrize(
    ("error", "kind", "name", "calls"),
    [
        (SlideError("NoMpp", "no mpp"), "input", "NoMpp", 1),
        (SlideError("Crash", "five times"), "crash", "Crash", 1),
        (SlideError("Hung", "60 s"), "hung", "Hung", 1),
        (H5Error("BadH5", "no features"), "input", "BadH5", 1),
        (InputError("no scale"), "input", "InputError", 1),
        (TimeoutError("nfs"), "transient", "TimeoutError", 1),
        (MemoryError(), "transient", "MemoryError", 1),
        (IndexError("offsets"), "crash", "IndexError", 2),
        (ZeroDivisionError("patch size"), "crash", "ZeroDivisionError", 2),
    ],
)
def test_every_exception_becomes_a_failure_of_its_kind(error, kind, name, calls):
    found, called = fail_with(error)
    assert (found.kind, found.error, called) == (kind, name, calls)
    assert (found.stage, found.slide_id, found.chunk) == ("embed", "s", 4)
    assert str(error) in found.message


def test_an_unexpected_error_that_does_not_return_is_no_failure():
    errors = [ValueError("once")]

    def work():
        if errors:
            raise errors.pop()
        return "made"

    assert Guard("tile", "s").make(work) == "made"


def test_an_attempt_that_was_lost_is_for_the_caller():
    with pytest.raises(AttemptLostError):
        fail_with(AttemptLostError())


def test_a_stop_is_no_failure_of_the_unit():
    with pytest.raises(KeyboardInterrupt):
        fail_with(KeyboardInterrupt())


def test_an_error_keeps_its_name_between_processes():
    error = pickle.loads(pickle.dumps(SlideError("NoMpp", "text")))
    assert (error.name, str(error), error.kind) == ("NoMpp", "text", "input")


def test_a_unit_that_cannot_be_recorded_is_a_row():
    def work(unit):
        raise OSError(28, "No space left on device")

    row = guarded(work, "predict")({"slide_id": "s"})
    assert (row["tiles"], row["failures"]) == (0, 1)
    assert row["reasons"] == [["transient", "OSError"]]
    failure = Failure(**row["unwritten"])
    assert failure.kind == "transient" and "No space left" in failure.message


def test_a_damaged_file_that_stops_an_export_is_no_fault_of_the_storage():
    def work(unit):
        raise UnitError("DamagedShard", "cut short")

    row = guarded(work, "export")({"slide_id": "s"})
    assert row["unwritten"]["kind"] == "input" and row["failures"] == 1


def test_a_row_counts_reasons():
    failures = [Failure("s", "tile", "hung", "Hung", "60 s")] * 2
    assert count_row("s", 7, failures) == {
        "slide_id": "s", "tiles": 7, "failures": 2, "reasons": [["hung", "Hung"]] * 2,
    }  # fmt: skip


def test_a_driver_that_ended_is_no_fault_of_its_units(tmp_path):
    """Five stops, one of them after two deaths of a worker."""
    one, other = Attempts(tmp_path, "a.b"), Attempts(tmp_path, "a")
    for _ in range(5):
        assert one.begin() == 1
        forgive_last(tmp_path)
    assert [one.begin(), one.begin(), one.begin(), other.begin()] == [1, 2, 3, 1]
    forgive_last(tmp_path)
    assert (one.begin(), other.begin()) == (3, 1)
    one.end()
    assert one.begin() == 1


def test_a_directory_without_attempts_has_nothing_to_forgive(tmp_path):
    forgive_last(tmp_path)
    assert not list(tmp_path.iterdir())


def test_attempts_that_hung_are_counted_apart(tmp_path):
    """The watchdog ended two processes; how many ended otherwise does not count."""
    for hangs in (True, False, True):
        attempt = Attempts(tmp_path, "s")
        attempt.begin()
        attempt.check_hangs()
        if hangs:
            attempt.record_hang()
    with pytest.raises(UnitError, match="2 times: retried") as error:
        attempt.check_hangs()
    assert error.value.kind == "hung"
    Attempts(tmp_path, "other").check_hangs()
    attempt.end()
    attempt.check_hangs()
