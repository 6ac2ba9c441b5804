import numpy as np
import pyarrow as pa
import pytest

from mshisto_ray.store import schema
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.workflows.localisation import localise


def tiles_table(slide_id, names):
    rows = [
        {
            "slide_id": slide_id, "mpp": 0.5, "row": i, "col": 7, "x": 0, "y": i,
            "extent": 1.0, "tissue": 1.0, "own": True, "chunk": 0, "annotation": name,
            "annotated": 0.0 if name is None else 1.0,
        }
        for i, name in enumerate(names)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema.TILES)


@pytest.fixture
def tiles(tmp_path):
    out = tmp_path / "tiles"
    with open_stage(out, "tiles", {}, {}):
        pass
    marks = {"a": [None, "sign", None, "sign"], "b": [None] * 4, "c": ["sign", None]}
    for slide_id, names in marks.items():
        write_shard(
            out / "shards" / f"{slide_id}.parquet", [tiles_table(slide_id, names)]
        )
    write_shard(out / "slides.parquet", [schema.SLIDES.empty_table()])
    write_shard(out / "failures.parquet", [schema.FAILURES.empty_table()])
    return TileDirectory(out)


def write_scores(tmp_path, bag, slide_ids, rows, values):
    num = len(rows)
    table = pa.table(
        {
            "slide_id": slide_ids,
            "mpp": np.full(num, 0.5),
            "row": np.array(rows, np.int32),
            "col": np.full(num, 7, np.int32),
            "attention": np.array(values, float),
        }
    )
    write_shard(tmp_path / "out" / "shards" / f"{bag}.parquet", [table], {})


def test_auroc_within_each_slide_whatever_the_order_of_rows(tmp_path, tiles):
    # Slide a: signs (rows 1, 3) score .9 and .2, the others .5 and .1: 3 of 4 pairs.
    write_scores(tmp_path, "p1", ["a"] * 4, [3, 0, 1, 2], [0.2, 0.1, 0.9, 0.5])
    # One bag of two slides; b has no sign and says nothing.
    write_scores(
        tmp_path, "p2", ["b", "c", "b", "c"], [0, 0, 1, 1], [0.9, 0.1, 0.8, 0.4]
    )
    found = localise(tmp_path / "out", tiles, "sign")
    assert found.per_slide == {"a": 0.75, "c": 0.0}
    assert found.mean == pytest.approx(0.375)


def test_no_slide_with_a_sign(tmp_path, tiles):
    write_scores(tmp_path, "p", ["b"] * 4, [0, 1, 2, 3], [1, 2, 3, 4])
    assert np.isnan(localise(tmp_path / "out", tiles, "sign").mean)
