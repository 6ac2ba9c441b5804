"""What many tests share: their groups, one local Ray, the real data."""

import gc
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fixtures.environment  # noqa: F401  before Ray and MLflow are imported
import pytest

import mshisto_ray.distributed  # noqa: F401  sets the rest of Ray's environment

pytest_plugins = (
    "fixtures.chain",
    "fixtures.odd_slides",
    "fixtures.plain",
    "fixtures.predicting",
    "fixtures.slides",
    "fixtures.stages",
    "fixtures.studies",
    "fixtures.tables",
    "fixtures.tiled",
    "fixtures.training",
)


# Fixtures of the session that take long: the tests that use one run in one process.
_MADE_ONCE = ("local_ray", "prediction_study", "phantom", "coloured")
_DEFAULT_TIMEOUT = 900


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, since a test often waits for Ray; at most four."""
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group tests by what they share, so that pytest-xdist makes it once.

    Tests of the session's one Ray are one group. The others are grouped by their file,
    for its fixtures, also those whose jobs start a Ray of their own: while such a job
    waits for a process to start or to end, another file's test runs.
    """
    if item.get_closest_marker("xdist_group"):
        return
    names = getattr(item, "fixturenames", ())
    shared = [name for name in _MADE_ONCE if name in names]
    item.add_marker(pytest.mark.xdist_group([*shared, item.location[0]][0]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or one process would do it last and alone."""
    items.sort(key=_allowed_seconds, reverse=True)


def _allowed_seconds(item: pytest.Item) -> float:
    """Timeout of a test that starts Ray; 0 for the many short ones."""
    if not item.get_closest_marker("ray"):
        return 0
    given = item.get_closest_marker("timeout")
    return given.args[0] if given else _DEFAULT_TIMEOUT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real slides and data sets."""
    folder = os.environ.get("MSHISTO_TEST_DATA")
    if not folder:
        pytest.skip("no real data: MSHISTO_TEST_DATA is not set")
    path = Path(folder).absolute()
    if not path.is_dir():
        pytest.fail(f"MSHISTO_TEST_DATA={folder} is not a folder")
    return path


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """The one Ray of the test session: 2 CPUs; jobs under test join it."""
    import ray

    # Not under pytest's own folder: Ray's socket names have to stay short.
    folder = tempfile.mkdtemp(prefix="mshisto-", dir="/tmp")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=256 * 1024**2,
        _temp_dir=folder,
    )
    yield
    # On a busy machine Ray gives up waiting for its processes, and Python warns of them
    # when it forgets them.
    started = [o for o in gc.get_objects() if type(o) is subprocess.Popen]
    ray.shutdown()
    for process in started:
        process.wait(60)
    shutil.rmtree(folder, ignore_errors=True)
