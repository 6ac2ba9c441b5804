"""Slides damaged at random: right pixels or a failure, and never an exception."""

import numpy as np
import openslide as raw
import pyarrow.parquet as pq
import pytest
from fixtures.odd_slides import on_glass, shrink, write, write_scn

from mshisto_ray import config as configs
from mshisto_ray.embedding.reading import InTurn
from mshisto_ray.embedding.unit import Chunk, UnitEmbedder
from mshisto_ray.jobs import tile
from mshisto_ray.store import schema
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.record import readings_of

TILE_PX = 64
# Of a whole slide or of a tile; any other would be an exception that was caught.
REASONS = {
    "AbsurdMpp", "ImplausibleSize", "MissingPixels", "NoMpp", "NoScale", "NoTissue",
    "NotASlide", "NotBrightField", "UnreadableRegion", "UnreadableSlide",
}  # fmt: skip


class Pixels:
    """Keeps the bytes of each tile."""

    schema = schema.PIXELS
    shape = ()
    dtype = np.dtype(object)

    def __call__(self, tiles):
        values = np.empty(len(tiles), object)
        values[:] = [tile.tobytes() for tile in tiles]
        return values, []

    def columns(self, values):
        return [list(values)]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Bytes of small slides of three kinds, by the ending of their names."""
    folder = tmp_path_factory.mktemp("originals")
    plane = on_glass(700, 600, 100, 90, 450, 400)
    levels = [plane, shrink(plane, 2), shrink(plane, 4)]
    paths = [
        write(folder / "jpeg.tif", levels, tile=128),
        write(folder / "lossless.tif", levels[:2], tile=128, compression="deflate",
              compressionargs=None),
        write_scn(folder / "area.scn", [(plane, 300, 400)], 1500, 1600),
    ]  # fmt: skip
    return [(path.suffix, path.read_bytes()) for path in paths]


def damaged(content, rng):
    """The content with one damage: bits, a stretch, the end, or a word of a header."""
    data = bytearray(content)
    kind, at = rng.integers(5), int(rng.integers(len(data)))
    if kind == 0:
        for place in rng.integers(0, len(data), 20):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        length = int(rng.integers(1, 4000))
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == 2:
        del data[at:]
    elif kind == 3:  # headers of pages: entries of 12 or 20 bytes
        tag = int(rng.choice([256, 257, 258, 259, 262, 277, 322, 323, 324, 325, 347]))
        places = [
            i for i in range(0, len(data) - 8, 2)
            if int.from_bytes(data[i : i + 2], "little") == tag
            and data[i + 2] in (3, 4, 16) and data[i + 3] == 0
        ]  # fmt: skip
        place = int(rng.choice(places)) if places else at
        value = int(rng.choice([0, 1, 63, 300, 65535, 2**31]))
        data[place + 4 : place + 8] = value.to_bytes(4, "little")
    else:
        data[at : at + 8] = rng.integers(0, 256, 8, np.uint8).tobytes()
    return bytes(data)


def direct(path, reading, x, y):
    """A tile by OpenSlide alone; None where it cannot be read or nothing is held."""
    slide = raw.OpenSlide(path)
    side = TILE_PX * reading.factor
    try:
        image = slide.read_region((x, y), reading.level, (side, side))
    except raw.OpenSlideError:
        return None, True
    finally:
        slide.close()
    rgba = np.asarray(image)
    alpha = rgba[..., 3:] / 255
    over = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha))
    cells = over.reshape(TILE_PX, reading.factor, TILE_PX, reading.factor, 3)
    return np.floor(cells.mean((1, 3)) + 0.5).astype(np.uint8), bool(alpha.min() < 1)


def check(originals, folder, store, seeds):
    """Tile and embed a damaged slide a seed, and compare each tile with OpenSlide."""
    # Of one patient, as damage may change nothing, and copies are then allowed.
    lines = ["slide_id,patient_id,path,mpp"]
    for seed in seeds:
        suffix, content = originals[seed % len(originals)]
        rng = np.random.default_rng(seed)
        path = folder / f"s{seed}{suffix}"
        path.write_bytes(damaged(content, rng))
        lines.append(f"s{seed},p,{path},{0.5 if seed % 2 else ''}")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    given = {"cohort": str(folder / "cohort.csv"), "out": str(folder / "tiles")}
    given |= {"tile_px": TILE_PX, "scales": [0.5, 1.0], "chunk_tiles": 8}
    given |= {"runtime": {"max_failures": 1.0, "mlflow": {"uri": store}}}
    tile.run(configs.validate(tile.TileConfig, given))
    tiles = TileDirectory(folder / "tiles")
    failed = {failure["slide_id"] for failure in tiles.failures}
    assert failed | set(tiles.slides) == {f"s{seed}" for seed in seeds}
    assert {failure["kind"] for failure in tiles.failures} <= {"input"}
    assert {failure["error"] for failure in tiles.failures} <= REASONS
    assert all("\n" not in failure["message"] for failure in tiles.failures)
    embed = UnitEmbedder(tiles.path, {folder / "out": Pixels()}, InTurn(), 16)
    counts = {"kept": 0, "failed": 0}
    for slide_id, record in tiles.slides.items():
        for chunk in range(record["num_chunks"]):
            embed(Chunk(slide_id, chunk))
            compare(tiles, record, chunk, shard_path(folder / "out", slide_id, chunk),
                    counts)  # fmt: skip
    return tiles, counts


def compare(tiles, record, chunk, shard, counts):
    readings = readings_of(record)
    kept = {(r["mpp"], r["row"], r["col"]): r for r in pq.read_table(shard).to_pylist()}
    failures = read_metadata(shard)["failures"]
    failed = {(f["mpp"], f["row"], f["col"]): f for f in failures}
    assert {f["kind"] for f in failures} <= {"input"}
    assert {f["error"] for f in failures} <= REASONS
    for row in tiles.read_chunk(record["slide_id"], chunk).to_pylist():
        reading = readings[row["mpp"]]
        place = (row["mpp"], row["row"], row["col"])
        assert (place in kept) != (place in failed)
        counts["kept" if place in kept else "failed"] += 1
        if reading.factor is None:  # resampled: a value of the header was damaged
            continue
        pixels, is_lacking = direct(record["path"], reading, row["x"], row["y"])
        if place in kept:
            found = np.frombuffer(kept[place]["jpeg"], np.uint8).reshape(64, 64, 3)
            assert pixels is not None
            np.testing.assert_array_equal(found, pixels)
        else:
            assert is_lacking, failed[place]


def test_damage_gives_right_pixels_or_a_failure(
    plain, originals, tmp_path, shared_store
):
    tiles, counts = check(originals, tmp_path, shared_store, range(20))
    # Some of each, or the test would say little.
    assert len(tiles.slides) >= 5 and len(tiles.failures) >= 5
    assert counts["kept"] > 200


@pytest.mark.slow
def test_much_damage_gives_right_pixels_or_a_failure(
    plain, originals, tmp_path, shared_store
):
    check(originals, tmp_path, shared_store, range(100, 300))


def test_the_undamaged_slides_are_whole(
    plain, originals, tmp_path, shared_store, monkeypatch
):
    monkeypatch.setitem(globals(), "damaged", lambda content, rng: content)
    tiles, counts = check(originals, tmp_path, shared_store, range(3))
    assert not tiles.failures and not counts["failed"]
