"""One Ray Data pipeline over small units of work: a unit in, a row of counts out.

Pixels and embeddings never pass through the object store: a worker reads, computes
and writes its shard itself. Units and rows travel as JSON, so that nothing depends on
how Arrow guesses the types of a block.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy

from mshisto_ray.distributed.room import wait_for_room
from mshisto_ray.distributed.workers import ActorPlan

# Between two blocks a worker waits for the driver, which looks every tenth of a second:
# short units go in blocks of several. The last ones go one by one, so that the workers
# end together.
_MOST_UNITS = 16
# Beyond this many blocks, driver memory and scheduling cost more than uneven ends.
_MAX_BLOCKS = 4096

Work = Callable[[dict[str, Any]], dict[str, Any]]


class _Worker:
    """Makes units in an actor of its own; builds their function once."""

    def __init__(self, make: Callable[..., Work], arguments: Sequence[Any]):
        # OpenCV would take every core of the node, whatever Ray has reserved, and
        # share out single tiles, which costs more than it saves.
        cv2.setNumThreads(1)
        self._work = make(*arguments)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return _rows(batch, self._work)


def _make_in_task(batch: dict[str, np.ndarray], given: bytes) -> dict[str, np.ndarray]:
    """Make units in whichever worker of the session is free."""
    return _rows(batch, _work_of(given))


@functools.lru_cache(maxsize=1)
def _work_of(given: bytes) -> Work:
    """The units' function, built by the first unit that a process makes of a stage."""
    make, arguments = pickle.loads(given)
    return make(*arguments)


def _rows(batch: dict[str, np.ndarray], work: Work) -> dict[str, np.ndarray]:
    rows = [json.dumps(_row(json.loads(unit), work)) for unit in batch["unit"]]
    return {"row": np.array(rows, dtype=object)}


def _row(unit: dict[str, Any], work: Work) -> dict[str, Any]:
    started = time.monotonic()
    row = work(unit)
    return row | {
        "unit_s": time.monotonic() - started,
        "worker": f"{ray.get_runtime_context().get_node_id()} {os.getpid()}",
        "worker_cpu_s": time.process_time(),
    }


def stream(
    units: Sequence[dict[str, Any]],
    make: Callable[..., Work],
    arguments: Sequence[Any],
    plan: ActorPlan,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all units in order of completion.

    To each are added ``unit_s``, the seconds that its unit took, ``worker``, the
    process that made it, and ``worker_cpu_s``, the CPU time of that process so far,
    Ray's own threads included.

    Without GPUs the units are tasks: the stages of a session share its processes, which
    have started and imported once. With GPUs they are of actors that hold their network
    on a GPU, as many as the plan has. A worker whose process ends is replaced and its
    block retried, so ``make``'s function has to skip finished units and to count its
    attempts.

    Args:
        units: JSON objects.
        make: importable function; called once per worker, returns the unit's function.
        arguments: of ``make``, picklable and small.
        plan: number of workers and what each reserves.
    """
    wait_for_room(plan)
    items = [{"unit": json.dumps(unit)} for unit in units]
    workers = min(plan.actors, len(items))
    sizes = _block_sizes(len(items), workers)
    rest = iter(items)
    dataset = ray.data.from_arrow(
        [pa.Table.from_pylist(list(itertools.islice(rest, size))) for size in sizes]
    )
    # Rows leave a block one by one, so that progress is seen unit by unit.
    dataset.context.target_max_block_size = 1
    if plan.gpus:
        rows = dataset.map_batches(
            _Worker,
            fn_constructor_args=(make, tuple(arguments)),
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_cpus=plan.cpus,
            num_gpus=plan.gpus,
        )
    else:
        rows = dataset.map_batches(
            _make_in_task,  # pyright: ignore[reportArgumentType]
            fn_args=(pickle.dumps((make, tuple(arguments))),),
            batch_size=1,
            compute=TaskPoolStrategy(size=workers),
            num_cpus=plan.cpus,
        )
    for row in rows.iter_rows():
        yield json.loads(row["row"])


def _block_sizes(units: int, workers: int) -> list[int]:
    """Units of each block: a quarter of each worker's share of what is left.

    A cohort's slow slides may follow each other, so no block holds many of them.
    """
    sizes, left = [], units
    most = max(_MOST_UNITS, math.ceil(units / _MAX_BLOCKS))
    while left:
        sizes.append(min(math.ceil(left / (4 * workers)), most))
        left -= sizes[-1]
    return sizes
