import numpy as np
import pyarrow as pa
import pytest

from mshisto_ray.mil.bags import Bags
from mshisto_ray.store import schema
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import TileDirectory


def planted_bags(
    num=40,
    classes=2,
    dim=6,
    per_patient=1,
    seed=0,
    empty=(),
    largest=6,
    folds=None,
    everywhere=False,
):
    """Bags of 1 to ``largest`` instances; one instance of class c > 0 is far along c.

    ``everywhere``: all of its instances are; ``empty``: bags without instances.
    """
    rng = np.random.default_rng(seed)
    targets = (np.arange(num) // per_patient) % classes
    sizes = rng.integers(1, largest + 1, num)
    sizes[list(empty)] = 0
    offsets = np.concatenate([[0], sizes.cumsum()])
    values = rng.normal(size=(offsets[-1], dim)).astype(np.float32)
    for start, size, target in zip(offsets[:-1], sizes, targets, strict=True):
        if size and target:
            key = start + rng.integers(size)
            rows = slice(start, start + size) if everywhere else key
            values[rows, target] += 6
    names = tuple(f"b{i}" for i in range(num))
    return Bags(
        features=ArrayFeatures(names, values * 3 + 5, offsets),
        names=names,
        members=tuple((i,) for i in range(num)),
        slide_ids=(None,) * num,
        patient_ids=tuple(f"p{i // per_patient}" for i in range(num)),
        targets=targets,
        classes=tuple("abcde"[:classes]),
        folds=folds,
        sizes=sizes,
        digest="0",
        encoder=None,
        scale=None,
        notes=(),
    )


@pytest.fixture
def planted():
    return planted_bags


def _write_tiles(out, marks):
    """A tiles directory of {slide_id: {(mpp, row, col): class or None}}."""
    with open_stage(out, "tiles", {}, {}):
        pass
    for slide_id, tiles in marks.items():
        rows = [
            {
                "slide_id": slide_id, "mpp": mpp, "row": row, "col": col, "x": 0,
                "y": 0, "extent": 1.0, "tissue": 1.0, "own": True, "chunk": 0,
                "annotation": name, "annotated": 0.0 if name is None else 1.0,
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
    return _write_tiles
