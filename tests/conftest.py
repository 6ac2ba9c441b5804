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
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import mshisto_ray.distributed  # noqa: F401  sets the rest of Ray's environment
from mshisto_ray.store import schema
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.shards import tensor_column, write_shard


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


@pytest.fixture
def make_embeddings(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes an embeddings directory from arrays.

    ``make({slide_id: {mpp: values [N, D]}})``; of every scale but the finest the last
    tile is only an ancestor; slides have two chunks.
    """

    def make(slides, name: str = "embeddings", incomplete=()) -> Path:
        out = tmp_path / name
        first = next(iter(slides.values()))
        dim = next(iter(first.values())).shape[1]
        recipe = {
            "tiles": {"scales": sorted(first)},
            "encoder": {"name": "drawn", "digest": "0"},
            "dim": dim,
            "dtype": "float16",
        }
        open_stage(out, "embeddings", recipe, {})
        rows = []
        for slide_id, scales in slides.items():
            for chunk in range(2):
                groups = [
                    _tiles(slide_id, mpp, values, chunk, mpp == min(first))
                    for mpp, values in scales.items()
                ]
                write_shard(shard_path(out, slide_id, chunk), groups)
            rows.append(
                {
                    "slide_id": slide_id,
                    "patient_id": slide_id,
                    "fingerprint": str(zlib.crc32(repr(scales).encode())),
                    "num_chunks": 2,
                    "complete": slide_id not in incomplete,
                    "rows_per_scale": [(m, len(v)) for m, v in scales.items()],
                }
            )
        table = pa.Table.from_pylist(rows, schema=schema.EMBEDDED_SLIDES)
        write_shard(out / "slides.parquet", [table])
        return out

    return make


def _tiles(slide_id: str, mpp: float, values: np.ndarray, chunk: int, finest: bool):
    """One chunk of two: the even or the odd rows of a column of tiles."""
    row = np.arange(len(values))[chunk::2]
    num = len(row)
    columns = {
        "slide_id": [slide_id] * num,
        "mpp": np.full(num, mpp),
        "row": row.astype(np.int32),
        "col": np.zeros(num, np.int32),
        "x": np.zeros(num, np.int64),
        "y": row * 256,
        "extent": np.full(num, 256.0),
        "tissue": np.ones(num, np.float32),
        "own": np.full(num, True) if finest else row < len(values) - 1,
        "rgb": tensor_column(values[chunk::2].astype(np.float16)),
    }
    kind = schema.embeddings(values.shape[1], pa.float16())
    return pa.table(list(columns.values()), schema=kind)
