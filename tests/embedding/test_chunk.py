import numpy as np
import pyarrow as pa
import pytest

from mshisto_ray.embedding.chunk import embed_chunk, empty_tables
from mshisto_ray.embedding.colour import PLAIN, Look
from mshisto_ray.embedding.product import Vectors
from mshisto_ray.embedding.stains import none
from mshisto_ray.slides import (
    SlideError,
)
from mshisto_ray.store import schema
from mshisto_ray.store.shards import tensor_values
from mshisto_ray.tiling.resolution import ScaleReading

READINGS = {m: ScaleReading(m, m, 8 * m, 0, 1) for m in (0.5, 1.0)}


class MeanEncoder:
    """Embeds a tile as its mean colour and its top-left pixel; records batch sizes."""

    dim = 4
    digest = "0" * 32

    def __init__(self):
        self.batches = []

    def __call__(self, tiles):
        self.batches.append(len(tiles))
        mean = tiles.reshape(len(tiles), -1, 3).mean(axis=1)
        return np.concatenate([mean, tiles[:, 0, 0, :1]], axis=1).astype(np.float32)


def read(reading, x, y):
    rng = np.random.default_rng([x, y, int(reading.mpp * 10)])
    return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def in_turn(read):
    """Reads as a chunk expects it: cell by cell, an error in place of pixels."""

    def answers(cells):
        for mpp, x, y in (tile for cell in cells for tile in cell):
            try:
                yield read(READINGS[mpp], x, y)
            except SlideError as error:
                yield error

    return answers


def embed(tiles, read, encoder, batch_size, dtype, look=PLAIN):
    """One encoder's tables and failures."""
    product = Vectors(encoder, np.dtype(dtype), look)
    (made,) = embed_chunk(tiles, READINGS, in_turn(read), [product], batch_size)
    return made.tables, made.failures


def chunk(num_fine=7, num_coarse=2):
    rows = [
        {
            "slide_id": "s", "mpp": mpp, "row": i // 3, "col": i % 3, "x": 100 * i,
            "y": i, "extent": 8 * mpp, "tissue": 1.0, "own": True, "chunk": 3,
            "annotation": None, "annotated": 0.0,
        }
        for mpp, num in ((0.5, num_fine), (1.0, num_coarse))
        for i in range(num)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema.TILES)


def expected(table):
    encode = MeanEncoder()
    return np.concatenate(
        [
            encode(read(READINGS[mpp], x, y)[None])
            for mpp, x, y in zip(
                table["mpp"].to_pylist(),
                table["x"].to_pylist(),
                table["y"].to_pylist(),
                strict=True,
            )
        ]
    )


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_rows_equal_a_tile_by_tile_loop_whatever_the_batch(batch_size):
    encode = MeanEncoder()
    tables, failures = embed(chunk(), read, encode, batch_size, "float32")
    assert [t.num_rows for t in tables] == [7, 2] and not failures
    whole = pa.concat_tables(tables)
    np.testing.assert_array_equal(tensor_values(whole["rgb"]), expected(chunk()))
    assert max(encode.batches) <= batch_size
    assert sum(encode.batches) == 9


def test_rows_are_sorted_whatever_the_order_given():
    mixed = chunk().take(np.random.default_rng(0).permutation(9))
    tables, _ = embed(mixed, read, MeanEncoder(), 4, "float16")
    places = [
        row
        for t in tables
        for row in zip(*(t[c].to_pylist() for c in ("mpp", "row", "col")), strict=True)
    ]
    assert places == sorted(places)


def test_an_unreadable_tile_is_reported_and_the_others_kept():
    def broken(reading, x, y):
        if (reading.mpp, x) in {(0.5, 300), (1.0, 100)}:
            raise SlideError("UnreadableRegion", "cannot decode")
        return read(reading, x, y)

    tables, failures = embed(chunk(), broken, MeanEncoder(), 2, "float32")
    assert [t.num_rows for t in tables] == [6, 1]
    assert {(f.mpp, f.row, f.col) for f in failures} == {(0.5, 1, 0), (1.0, 0, 1)}
    assert {(f.slide_id, f.chunk, f.kind) for f in failures} == {("s", 3, "input")}
    whole = pa.concat_tables(tables)
    np.testing.assert_array_equal(tensor_values(whole["rgb"]), expected(whole))


def test_what_overflows_the_stored_type_is_a_failure_not_an_infinity():
    class Huge(MeanEncoder):
        def __call__(self, tiles):
            out = super().__call__(tiles)
            out[tiles[:, 0, 0, 0] > 127] *= 1e6
            return out

    tables, failures = embed(chunk(), read, Huge(), 4, "float16")
    stored = tensor_values(pa.concat_tables(tables)["rgb"])
    assert np.isfinite(stored).all()
    assert len(stored) + len(failures) == 9 and failures
    assert {f.error for f in failures} == {"NotFinite"}
    assert "dtype: float32" in failures[0].message


def test_a_network_that_gives_no_number_fails_for_that_tile_in_any_type():
    class Broken(MeanEncoder):
        def __call__(self, tiles):
            out = super().__call__(tiles)
            out[tiles[:, 0, 0, 0] > 127] = np.nan
            return out

    tables, failures = embed(chunk(), read, Broken(), 4, "float32")
    stored = tensor_values(pa.concat_tables(tables)["rgb"])
    assert np.isfinite(stored).all() and len(stored) + len(failures) == 9 and failures
    for failure in failures:
        assert (failure.slide_id, failure.error) == ("s", "NotFinite")
        assert None not in (failure.mpp, failure.row, failure.col)
        assert "gives NaN or infinity: use precision: float32" in failure.message


def test_tiles_are_read_cell_by_cell():
    """Children of one coarsest tile, then that tile, then the next cell."""
    asked = []

    def note(reading, x, y):
        asked.append((reading.mpp, x))
        return read(reading, x, y)

    embed(chunk(), note, MeanEncoder(), 4, "float32")
    # Fine tiles 0..6 have rows i // 3 and columns i % 3; coarse ones (0, 0), (0, 1).
    first = [(0.5, 100 * i) for i in (0, 1, 3, 4)] + [(1.0, 0)]
    assert asked == [*first, (0.5, 200), (0.5, 500), (1.0, 100), (0.5, 600)]


def test_each_colour_is_a_column_of_the_same_rows():
    look = Look(("gray", "rgb"), none.build())
    tables, failures = embed(chunk(), read, MeanEncoder(), 4, "float32", look)
    plain, _ = embed(chunk(), read, MeanEncoder(), 4, "float32")
    whole, alone = pa.concat_tables(tables), pa.concat_tables(plain)
    assert not failures
    assert whole.column_names[-2:] == ["gray", "rgb"]
    assert whole.drop_columns(["gray"]).equals(alone)
    rgb, gray = (tensor_values(whole[name]) for name in ("rgb", "gray"))
    luma = rgb[:, :3] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray[:, :3], luma[:, None].repeat(3, 1), atol=0.5)
    empty = empty_tables(Vectors(MeanEncoder(), np.dtype("float32"), look))
    assert empty[0].schema == whole.schema and not empty[0].num_rows


def test_products_made_together_are_those_made_alone():
    """Rows and failures of each, in order: no product's failure affects another's."""

    class Halves(MeanEncoder):
        """Not finite for half of the tiles."""

        dim = 2

        def __call__(self, tiles):
            out = super().__call__(tiles)[:, :2]
            out[tiles[:, 0, 0, 0] > 127] = np.nan
            return out

    def broken(reading, x, y):
        asked.append((reading.mpp, x))
        if (reading.mpp, x) in {(0.5, 300), (1.0, 100)}:
            raise SlideError("UnreadableRegion", "cannot decode")
        return read(reading, x, y)

    asked = []
    products = [
        Vectors(Halves(), np.dtype("float32"), PLAIN),
        Vectors(MeanEncoder(), np.dtype("float16"), Look(("gray",), none.build())),
    ]
    together = embed_chunk(chunk(), READINGS, in_turn(broken), products, 3)
    assert len(asked) == 9, "read once"
    for made, product in zip(together, products, strict=True):
        (alone,) = embed_chunk(chunk(), READINGS, in_turn(broken), [product], 3)
        assert made.failures == alone.failures
        for one, other in zip(made.tables, alone.tables, strict=True):
            assert one.equals(other) and one.schema == other.schema
    errors = [{f.error for f in made.failures} for made in together]
    assert errors == [{"UnreadableRegion", "NotFinite"}, {"UnreadableRegion"}]
