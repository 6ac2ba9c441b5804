import os
import signal
from pathlib import Path

import pytest

from mshisto_ray.distributed.pipeline import _block_sizes, stream
from mshisto_ray.distributed.workers import ActorPlan

pytestmark = pytest.mark.ray


def make_counter(folder):
    """Units that note the process that made their function, and one that ends it."""
    made = Path(folder) / f"made-{os.getpid()}"
    assert not made.exists(), "made twice in one process"
    made.touch()

    def work(unit):
        mark = Path(folder) / f"killed-{unit['number']}"
        if unit.get("kills") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": unit["number"]}

    return work


def make_other(folder):
    return lambda unit: {"other": unit["number"]}


def test_units_share_processes_that_make_their_function_once(local_ray, tmp_path):
    plan = ActorPlan(actors=2, cpus=1, gpus=0)
    units = [{"number": number} for number in range(12)]
    rows = list(stream(units, make_counter, (str(tmp_path),), plan))
    assert sorted(row["number"] for row in rows) == list(range(12))
    assert all(row["unit_s"] >= 0 and row["worker_cpu_s"] > 0 for row in rows)
    workers = {row["worker"] for row in rows}
    assert len(list(tmp_path.iterdir())) == len(workers) <= 2
    others = list(stream(units, make_other, (str(tmp_path),), plan))
    assert sorted(row["other"] for row in others) == list(range(12))
    assert len(workers | {row["worker"] for row in others}) <= 2, "started anew"


def test_blocks_of_units_shrink_to_one():
    sizes = _block_sizes(48, 2)
    assert sum(sizes) == 48 and sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 6 and sizes[-8:] == [1] * 8
    assert max(_block_sizes(10_000, 64)) == 16
    many = _block_sizes(1_000_000, 64)
    assert sum(many) == 1_000_000 and len(many) < 2 * 4096
    assert _block_sizes(1, 1) == [1] and _block_sizes(3, 3) == [1, 1, 1]


def test_a_process_that_ends_is_replaced_and_its_unit_made_again(local_ray, tmp_path):
    units = [{"number": number, "kills": number in (1, 3)} for number in range(6)]
    plan = ActorPlan(actors=1, cpus=1, gpus=0)
    rows = list(stream(units, make_counter, (str(tmp_path),), plan))
    assert sorted(row["number"] for row in rows) == list(range(6))
    assert {p.name for p in tmp_path.glob("killed-*")} == {"killed-1", "killed-3"}
    assert len(list(tmp_path.glob("made-*"))) >= 3
