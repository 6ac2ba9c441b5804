"""What many tests share: Ray's environment, one local Ray, the real data."""

import os

# Read once, on the first import of ray or mlflow.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("RAY_ADDRESS", None)

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mshisto_ray.distributed  # noqa: F401  sets the rest of Ray's environment


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
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
