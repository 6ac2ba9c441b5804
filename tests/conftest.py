"""What many tests share: their groups, one local Ray, the real data."""

import gc
import logging
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fixtures.environment  # noqa: F401  before Ray and MLflow are imported
import numpy as np
import pyarrow as pa
import pytest

import mshisto_ray.distributed  # noqa: F401  sets the rest of Ray's environment
from mshisto_ray.store import schema
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.failures import write_failures
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.shards import tensor_column, write_shard
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.store.tiles import shard_path as tile_path
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import tile_slide

pytest_plugins = (
    "fixtures.chain",
    "fixtures.odd_slides",
    "fixtures.plain",
    "fixtures.slides",
    "fixtures.studies",
    "fixtures.tables",
    "fixtures.training",
)


# Fixtures of the session that take long: the tests that use one run in one process.
_MADE_ONCE = ("local_ray", "phantom", "coloured")
_DEFAULT_TIMEOUT = 900


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


@pytest.fixture(scope="session")
def make_tiles() -> Callable[[Path, TilingRecipe, Path], Path]:
    """A function that tiles a cohort in this process: (table, recipe, out) to out."""

    def make(cohort_path, recipe, out):
        records = []
        with open_stage(out, "tiles", recipe.as_recipe(), {}):
            for row in read_cohort(cohort_path).rows:
                tiled = tile_slide(row, recipe)
                write_shard(tile_path(out, row.slide_id), tiled.tiles)
                counts = [tuple(pair) for pair in tiled.record["tiles_per_scale"]]
                records.append({**tiled.record, "tiles_per_scale": counts})
            slides = pa.Table.from_pylist(records, schema=schema.SLIDES)
            write_shard(out / "slides.parquet", [slides])
            write_failures(out, [])
        return out

    return make


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
        with open_stage(out, "embeddings", recipe, {}):
            pass
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
                    "made_from": str(zlib.crc32(repr(scales).encode())),
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


class Stages:
    """Writes a tiles directory of drawn slides, and embeddings of its tiles.

    Slides are squares of ``side`` x ``side`` tiles of 100 px at 0.5 um/px and their
    parents at 1 um/px; of the coarse tiles all but the last row are ``own``.
    """

    def __init__(self, folder):
        self.folder = folder
        self.tables = {}

    def tiles(self, slides, side=6, patients=None, name="tiles", tile_px=100):
        """``slides``: {slide_id: class of each fine tile [side * side] or None}."""
        out = self.folder / name
        recipe = {"scales": [0.5, 1.0], "tile_px": tile_px}
        with open_stage(out, "tiles", recipe, {}):
            pass
        records = []
        for slide_id, classes in slides.items():
            parts = [self._scale(slide_id, mpp, side, classes) for mpp in (0.5, 1.0)]
            self.tables[slide_id] = pa.concat_tables(parts)
            write_shard(tile_path(out, slide_id), [self.tables[slide_id]])
            records.append(
                {
                    "slide_id": slide_id,
                    "patient_id": (patients or {}).get(slide_id, slide_id),
                    "path": f"{slide_id}.tiff",
                    "width": 100 * side,
                    "height": 100 * side,
                    "mpp": 0.5,
                    "mpp_source": "file",
                    "vendor": "drawn",
                    "reader": "openslide",
                    "reader_reason": "drawn",
                    "fingerprint": f"print {slide_id}",
                    "tissue_mm2": 1.0,
                    "num_chunks": 1,
                    "tiles_per_scale": [(0.5, side**2), (1.0, (side // 2) ** 2)],
                    "resolution": "[]",
                }
            )
        table = pa.Table.from_pylist(records, schema=schema.SLIDES)
        write_shard(out / "slides.parquet", [table])
        write_failures(out, [])
        self.recipe = recipe
        return out

    def embeddings(self, embed, name, lost=(), slides=None, recipe=None, prints=None):
        """``embed(table) -> [N, D]``; ``lost``: (slide_id, row, col) of fine tiles."""
        out = self.folder / name
        first = embed(next(iter(self.tables.values())))
        tiles = recipe or self.recipe
        about = {"dim": first.shape[1], "dtype": "float32"}
        told = {"tiles": tiles, **about, "encoder": {"name": name}}
        with open_stage(out, "embeddings", told, {}):
            pass
        rows = []
        for slide_id in slides or self.tables:
            table, values = self.tables[slide_id], embed(self.tables[slide_id])
            gone = {(r, c) for s, r, c in lost if s == slide_id}
            places = zip(table["mpp"].to_pylist(), table["row"].to_pylist(),
                         table["col"].to_pylist(), strict=True)  # fmt: skip
            keep = np.array([m > 0.5 or (r, c) not in gone for m, r, c in places])
            kept = table.take(np.flatnonzero(keep))
            kind = schema.embeddings(first.shape[1], pa.float32())
            columns = [kept[field] for field in kind.names[:-1]]
            columns.append(tensor_column(values[keep].astype(np.float32)))
            mpp = kept["mpp"].to_numpy()
            shard = pa.table(columns, schema=kind)
            groups = [shard.take(np.flatnonzero(mpp == m)) for m in (0.5, 1.0)]
            write_shard(shard_path(out, slide_id, 0), groups)
            known = f"print {slide_id}"
            if prints:
                known = prints if isinstance(prints, str) else prints[slide_id]
            rows.append(
                {
                    "slide_id": slide_id,
                    "patient_id": slide_id,
                    "fingerprint": known,
                    "made_from": known,
                    "num_chunks": 1,
                    "complete": True,
                    "rows_per_scale": [(m, int((mpp == m).sum())) for m in (0.5, 1.0)],
                }
            )
        table = pa.Table.from_pylist(rows, schema=schema.EMBEDDED_SLIDES)
        write_shard(out / "slides.parquet", [table])
        return out

    def _scale(self, slide_id, mpp, side, classes):
        fine = mpp == 0.5
        side, extent = (side, 100) if fine else (side // 2, 200)
        # Written out of order: what reads has to sort.
        index = np.arange(side * side)[::-1]
        row, col = index // side, index % side
        names = [classes[i] if fine and classes else None for i in index]
        columns = {
            "slide_id": [slide_id] * len(index),
            "mpp": np.full(len(index), mpp),
            "row": row.astype(np.int32),
            "col": col.astype(np.int32),
            "x": col * extent,
            "y": row * extent,
            "extent": np.full(len(index), float(extent)),
            "tissue": np.ones(len(index), np.float32),
            "own": np.ones(len(index), bool) if fine else row < side - 1,
            "chunk": np.zeros(len(index), np.int32),
            "annotation": pa.array(names, pa.string()),
            "annotated": np.array([0.4 if n == "edge" else bool(n) for n in names],
                                  np.float32),
            "focus": np.full(len(index), 100, np.float32),
        }  # fmt: skip
        return pa.table(list(columns.values()), schema=schema.TILES)


@pytest.fixture(scope="session")
def make_stages():
    """Stages of a folder: writes tiles and embeddings of drawn slides."""
    return Stages


@pytest.fixture
def stages(tmp_path):
    """Writes tiles and embeddings of drawn slides."""
    return Stages(tmp_path)


def _write_tiles(out, marks, shares=None):
    """A tiles directory of {slide_id: {(mpp, row, col): class or None}}.

    ``shares``: {slide_id: {(mpp, row, col): share of the tile that is annotated}}, all
    of it by default.
    """
    shares = shares or {}
    with open_stage(out, "tiles", {}, {}):
        pass
    for slide_id, tiles in marks.items():
        rows = [
            {
                "slide_id": slide_id, "mpp": mpp, "row": row, "col": col, "x": 0,
                "y": 0, "extent": 1.0, "tissue": 1.0, "own": True, "chunk": 0,
                "annotation": name,
                "annotated": 0.0 if name is None else
                shares.get(slide_id, {}).get((mpp, row, col), 1.0),
            }
            for (mpp, row, col), name in tiles.items()
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=schema.TILES)
        write_shard(out / "shards" / f"{slide_id}.parquet", [table])
    slides = pa.Table.from_pylist(
        [{"slide_id": slide_id} for slide_id in marks],
        schema=pa.schema([f.with_nullable(True) for f in schema.SLIDES]),
    )
    write_shard(out / "slides.parquet", [slides])
    write_shard(out / "failures.parquet", [schema.FAILURES.empty_table()])
    return TileDirectory(out)


@pytest.fixture
def write_tiles():
    """Writes a tiles directory: ``_write_tiles``."""
    return _write_tiles
