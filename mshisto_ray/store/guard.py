"""One guard for every unit of work: whatever fails becomes a row of failures."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from mshisto_ray.config import InputError
from mshisto_ray.store.errors import Kind, UnitError
from mshisto_ray.store.failures import Failure, Stage

T = TypeVar("T")
Row = dict[str, Any]
# Other causes than the unit: a disk, a network, the machine's memory.
_OUTSIDE = (OSError, MemoryError)
_RETRIED = "retried by the next run"


class AttemptLostError(Exception):
    """What a unit worked with has ended: it begins anew, as another attempt."""


@dataclass(frozen=True)
class Guard:
    """Turns the exceptions of one unit into failures of a stage, slide and chunk."""

    stage: Stage
    slide_id: str
    chunk: int | None = None

    def make(self, work: Callable[[], T]) -> T | Failure:
        """What ``work`` returns, or the failure that its exception becomes.

        An error that no part of the code expects is a fault of the code, or of a file
        in a way that nobody thought of: ``work`` is tried once more, and what raises
        again is no transient failure.

        Raises:
            AttemptLostError: ``work`` raised it.
        """
        try:
            return work()
        except AttemptLostError:
            raise
        except (UnitError, InputError, *_OUTSIDE) as error:
            return self._failure(error)
        except Exception:
            return self._try_again(work)

    def _try_again(self, work: Callable[[], T]) -> T | Failure:
        try:
            return work()
        except AttemptLostError:
            raise
        except Exception as error:
            return self._failure(error)

    def _failure(self, error: Exception) -> Failure:
        kind: Kind = "crash"
        name, message = type(error).__name__, str(error)
        if isinstance(error, UnitError):
            kind, name = error.kind, error.name
        elif isinstance(error, InputError):
            kind = "input"
        elif isinstance(error, _OUTSIDE):
            kind, message = "transient", f"{message}; {_RETRIED}"
        else:
            traceback.print_exception(error)
            message += " (unexpected, twice in turn: see the worker's log)"
        return Failure(self.slide_id, self.stage, kind, name, message, chunk=self.chunk)


def count_row(slide_id: str, tiles: int, failures: Sequence[Failure]) -> Row:
    """The row of counts of a unit; ``reasons``: ``[kind, error]`` of each failure."""
    reasons = [[failure.kind, failure.error] for failure in failures]
    counts = {"tiles": tiles, "failures": len(failures), "reasons": reasons}
    return {"slide_id": slide_id, **counts}


def guarded(work: Callable[[Row], Row], stage: Stage) -> Callable[[Row], Row]:
    """``work`` on a unit, or the row of a unit that could not be recorded in a shard.

    A unit whose disk is full, for example, has nowhere to record its failure but the
    row, under ``unwritten``. It is made again by the next run.
    """

    def guarded_work(unit: Row) -> Row:
        slide_id = unit["slide_id"]
        made = Guard(stage, slide_id).make(lambda: work(dict(unit)))
        if isinstance(made, Failure):
            return {**count_row(slide_id, 0, [made]), "unwritten": asdict(made)}
        return made

    return guarded_work
