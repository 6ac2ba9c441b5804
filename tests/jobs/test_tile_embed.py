"""Tiling and embedding through Ray, against plain Python, row for row."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.config import InputError, TooManyFailuresError
from mshisto_ray.embedding.worker import ENCODERS, EmbedWork
from mshisto_ray.jobs import embed, tile
from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.store.cohort import read_cohort, slide_to_json
from mshisto_ray.store.embeddings import EmbeddingDirectory, shard_path
from mshisto_ray.store.shards import read_metadata, tensor_values
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.record import readings_of
from mshisto_ray.tiling.unit import make_tiler


@pytest.fixture(scope="module")
def slides(tmp_path_factory, write_slide):
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(("a", "b", "c")):
        write_slide(folder / f"{name}.tiff", seed)
    (folder / "broken.svs").write_bytes(b"not a slide")
    write_slide(folder / "coarse.tiff", 7, mpp=1.0)
    return folder


def write_cohort(slides, names, path=None, **columns):
    path = path or slides / "cohort.csv"
    header = ["path", *columns]
    lines = [
        ",".join([str(slides / name), *(values[i] for values in columns.values())])
        for i, name in enumerate(names)
    ]
    path.write_text("\n".join([",".join(header), *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def cohort(slides):
    return write_cohort(slides, ["a.tiff", "b.tiff", "broken.svs", "coarse.tiff"])


def tile_config(cohort, out, **changes):
    raw = {"cohort": str(cohort), "out": str(out), "tile_px": 64, "chunk_tiles": 40}
    return configs.validate(tile.TileConfig, raw | changes)


def embed_config(tiles, out, **changes):
    encoder = {"name": "timm", "model": "mobilenetv3_small_050", "weights": "random"}
    raw = {
        "tiles": str(tiles),
        "out": str(out),
        "encoder": encoder,
        "batch_size": 16,
        "runtime": {"actors": 1},
    }
    return configs.validate(embed.EmbedConfig, raw | changes)


@pytest.fixture(scope="module")
def tiled(local_ray, cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "tiles"
    tile.run(tile_config(cohort, out))
    return out


@pytest.fixture(scope="module")
def embedded(local_ray, tiled, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "embeddings"
    embed.run(embed_config(tiled, out))
    return out


def shards(directory):
    """Every shard: relative name -> (table, failures)."""
    found = {}
    for path in sorted((directory / "shards").rglob("*.parquet")):
        metadata = read_metadata(path)
        table = pq.read_table(path).replace_schema_metadata(None)
        found[str(path.relative_to(directory))] = (table, metadata["failures"])
    return found


def assert_same_shards(first, second):
    one, two = shards(first), shards(second)
    assert one.keys() == two.keys() and one
    for name in one:
        assert one[name][0].equals(two[name][0]), name
        assert one[name][1] == two[name][1], name


def modified(directory):
    return {p: p.stat().st_mtime_ns for p in (directory / "shards").rglob("*.parquet")}


def test_tables_of_a_tiled_cohort(tiled):
    tiles = TileDirectory(tiled)
    assert list(tiles.slides) == ["a", "b", "coarse"]
    reasons = {(f["slide_id"], f["error"], f["mpp"]) for f in tiles.failures}
    assert reasons == {("broken", "NotASlide", None), ("coarse", "NoScale", 0.5)}
    for slide_id, record in tiles.slides.items():
        table = tiles.read(slide_id)
        counts = dict(record["tiles_per_scale"])
        mpps = table["mpp"].to_numpy()
        assert {m: int((mpps == m).sum()) for m in np.unique(mpps)} == counts
        covered = dict(record["coverage"])
        assert covered.keys() == counts.keys()
        assert all(0.5 < share <= 1 for share in covered.values())
        assert (
            record["num_chunks"]
            == pq.ParquetFile(tiled / "shards" / f"{slide_id}.parquet").num_row_groups
        )
        for chunk in range(record["num_chunks"]):
            assert set(tiles.read_chunk(slide_id, chunk)["chunk"].to_pylist()) == {
                chunk
            }
        assert (tiled / "overview" / f"{slide_id}.png").stat().st_size > 1000
    assert (tiled / "contact_sheet" / "page-001.jpg").stat().st_size > 1000


def test_every_planned_tile_is_embedded_once_and_sorted(tiled, embedded):
    tiles, embeddings = TileDirectory(tiled), EmbeddingDirectory(embedded)
    assert embeddings.slide_ids == ["a", "b", "coarse"]
    for slide_id in embeddings.slide_ids:
        planned = tiles.read(slide_id)
        keys = list(
            zip(*(planned[c].to_pylist() for c in ("mpp", "row", "col")), strict=True)
        )
        found = []
        for mpp in embeddings.scales:
            part = embeddings.read(slide_id, mpp, own_only=False)
            found += list(zip(part.mpp, part.row, part.col, strict=True))
            assert part.values.shape == (len(part.row), embeddings.dim)
            own = embeddings.read(slide_id, mpp)
            np.testing.assert_array_equal(own.values, part.values[part.own])
            assert embeddings.num_own(slide_id, mpp) == len(own.row)
        assert found == sorted(keys)


def test_embeddings_are_those_of_the_tiles_pixels(tiled, embedded):
    tiles, embeddings = TileDirectory(tiled), EmbeddingDirectory(embedded)
    encoder = components.build(
        ENCODERS, embed_config(tiled, embedded).encoder, "cpu", "float32"
    )
    record = tiles.slides["a"]
    slide = open_slide(Path(record["path"]))
    for mpp, reading in readings_of(record).items():
        part = embeddings.read("a", mpp, own_only=False)
        pixels = np.stack(
            [read_tile(slide, reading, int(x), int(y), 64)
             for x, y in zip(part.x[:5], part.y[:5], strict=True)]
        )  # fmt: skip
        expected = encoder(pixels)
        scale = np.abs(expected).max()
        # `auto` computes in float32 on every machine; stored in float16.
        np.testing.assert_allclose(part.values[:5], expected, atol=1e-3 * scale)
    assert embeddings.manifest.recipe["precision"] == "float32"


def test_plain_python_gives_the_same_rows(tiled, embedded, cohort, tmp_path):
    recipe = tile_config(cohort, tiled).recipe.as_recipe()
    (tmp_path / "tiles").mkdir()
    tiler = make_tiler(tmp_path / "tiles", recipe)
    for row in read_cohort(cohort).rows:
        tiler(slide_to_json(row) | {"key": {}})
    assert_same_shards(tiled, tmp_path / "tiles")
    tiles = TileDirectory(tiled)
    encoder = embed_config(tiled, embedded).encoder
    work = EmbedWork(tiled, {tmp_path / "embeddings": encoder}, 16, "float16")
    embedder = embed.make_embedder(work, "cpu", 1)
    for slide_id, record in tiles.slides.items():
        for chunk in range(record["num_chunks"]):
            embedder({"slide_id": slide_id, "chunk": chunk})
    assert_same_shards(embedded, tmp_path / "embeddings")


def test_two_actors_give_the_same_rows_as_one(tiled, embedded, tmp_path):
    config = embed_config(tiled, tmp_path / "two", runtime={"actors": 2})
    embed.run(config)
    assert_same_shards(embedded, tmp_path / "two")


def test_a_second_run_does_no_work_and_reports_it(
    tiled, embedded, cohort, plain, capfd
):
    before = modified(tiled) | modified(embedded)
    tile.run(tile_config(cohort, tiled))
    embed.run(embed_config(tiled, embedded))
    said = capfd.readouterr().out
    assert "tile: 4 of 4 slides already done" in said
    done, total = re.search(r"embed: (\d+) of (\d+) chunks already", said).groups()
    assert done == total != "0"
    assert modified(tiled) | modified(embedded) == before


def test_geojson_asked_for_later_is_written_and_changes_no_row(
    tiled, cohort, plain, tmp_path
):
    out = tmp_path / "tiles"
    shutil.copytree(tiled, out)
    tile.run(tile_config(cohort, out, geojson=True))
    assert_same_shards(tiled, out)
    names = {path.name for path in (out / "geojson").iterdir()}
    kinds = ("tissue", "tiles")
    slides = ("a", "b", "coarse")
    assert names == {f"{slide}.{kind}.geojson" for slide in slides for kind in kinds}


def test_only_new_and_changed_slides_run(
    slides, write_slide, tiled, embedded, plain, tmp_path
):
    for directory in (tiled, embedded):
        shutil.copytree(directory, tmp_path / directory.name)
    tiles_out, embeddings_out = tmp_path / tiled.name, tmp_path / embedded.name
    before = modified(tiles_out) | modified(embeddings_out)
    names = ["a.tiff", "b.tiff", "c.tiff", "broken.svs", "coarse.tiff"]
    cohort = write_cohort(
        slides,
        names,
        tmp_path / "more.csv",
        label=list("10101"),
        patient_id=list("xxyyz"),
    )
    tile.run(tile_config(cohort, tiles_out))
    embed.run(embed_config(tiles_out, embeddings_out))
    after = modified(tiles_out) | modified(embeddings_out)
    new = {p for p in after if before.get(p) != after[p]}
    assert {p.stem if p.parent.name == "shards" else p.parent.name for p in new} == {
        "c"
    }
    assert EmbeddingDirectory(embeddings_out).patient_ids["a"] == "x"
    # The cohort shrinks and a slide's file changes.
    changed = tmp_path / "b.tiff"
    write_slide(changed, 99)
    cohort = write_cohort(slides, ["a.tiff", str(changed)], tmp_path / "less.csv")
    tile.run(tile_config(cohort, tiles_out))
    # As if it had had more chunks before.
    surplus = shard_path(embeddings_out, "b", 99)
    shutil.copy(shard_path(embeddings_out, "b", 0), surplus)
    state = EmbeddingDirectory(embeddings_out).state("b")
    embed.run(embed_config(tiles_out, embeddings_out))
    assert not surplus.exists()
    embeddings = EmbeddingDirectory(embeddings_out)
    assert embeddings.state("b") != state
    assert embeddings.slide_ids == ["a", "b"]
    old = EmbeddingDirectory(embedded).read("b", 0.5)
    new_b = embeddings.read("b", 0.5)
    assert old.values.shape != new_b.values.shape or (old.values != new_b.values).any()


def test_another_recipe_is_refused_with_its_keys(tiled, embedded, cohort):
    with pytest.raises(InputError, match=r"tissue_threshold: 0\.5 -> 0\.7"):
        tile.run(tile_config(cohort, tiled, tissue_threshold=0.7))
    with pytest.raises(InputError, match=r"dtype: 'float16' -> 'float32'"):
        embed.run(embed_config(tiled, embedded, dtype="float32"))
    with pytest.raises(InputError, match=r"encoder\.digest"):
        embed.run(embed_config(tiled, embedded, encoder={
            "name": "timm", "model": "mobilenetv3_small_050", "weights": "random",
            "seed": 1,
        }))  # fmt: skip


def test_too_many_failures_stop_with_the_reasons_kept(plain, slides, tmp_path):
    cohort = write_cohort(slides, ["a.tiff", "broken.svs"], tmp_path / "c.csv")
    with pytest.raises(TooManyFailuresError, match="1 of 2 slides gave no tile"):
        tile.run(tile_config(cohort, tmp_path / "out", runtime={"max_failures": 0.4}))
    (row,) = pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert row["slide_id"] == "broken"
    # Accepting them resumes from there.
    tile.run(tile_config(cohort, tmp_path / "out", runtime={"max_failures": 0.5}))


def test_a_slide_that_moved_away_is_tried_again(plain, slides, tmp_path):
    moved = tmp_path / "a.tiff"
    shutil.copy(slides / "a.tiff", moved)
    cohort = write_cohort(slides, [str(moved), "b.tiff"], tmp_path / "c.csv")
    tile.run(tile_config(cohort, tmp_path / "tiles"))
    moved.rename(tmp_path / "elsewhere.tiff")
    config = embed_config(tmp_path / "tiles", tmp_path / "embeddings")
    embed.run(config)
    failures = pq.read_table(config.out / "failures.parquet").to_pylist()
    assert {(f["slide_id"], f["kind"]) for f in failures} == {("a", "transient")}
    assert EmbeddingDirectory(config.out).slide_ids == ["b"]
    (tmp_path / "elsewhere.tiff").rename(moved)
    embed.run(config)
    assert EmbeddingDirectory(config.out).slide_ids == ["a", "b"]
    assert not pq.read_table(config.out / "failures.parquet").num_rows


def test_unusable_inputs_leave_nothing_behind(plain, slides, cohort, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "only_header.csv").write_text("path\n")
    with pytest.raises(InputError, match="no rows"):
        tile.run(tile_config(tmp_path / "only_header.csv", out))
    with pytest.raises(InputError, match=r"0\.75 is not an integer multiple"):
        tile_config(cohort, out, scales=[0.5, 0.75])
    with pytest.raises(InputError, match="no 'hest' in tissue_masks; have annotation"):
        tile_config(cohort, out, tissue={"name": "hest"})
    with pytest.raises(InputError, match="no tiles directory"):
        embed.run(embed_config(tmp_path, out))
    assert not out.exists()


def test_annotations_reach_the_tiles(plain, slides, tmp_path):
    ring = [[0, 0], [1100, 0], [1100, 450], [0, 450], [0, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "upper"}},
    }
    (tmp_path / "a.geojson").write_text(json.dumps({"features": [feature]}))
    path = tmp_path / "c.csv"
    path.write_text(f"path,annotation\n{slides / 'a.tiff'},a.geojson\n")
    tile.run(tile_config(path, tmp_path / "out"))
    table = TileDirectory(tmp_path / "out").read("a")
    names = np.array(table["annotation"].to_pylist())
    np.testing.assert_array_equal(names == "upper", table["y"].to_numpy() < 450)
    covered = table["annotated"].to_numpy()
    inside = table["y"].to_numpy() + table["extent"].to_numpy() <= 450
    np.testing.assert_allclose(covered[inside], 1.0)


def test_vectors_are_plain_arrow_tensors(embedded):
    path = next((embedded / "shards").rglob("*.parquet"))
    table = pq.read_table(path)
    assert str(table.schema.field("rgb").type).startswith("extension<arrow.fixed_shape")
    assert tensor_values(table["rgb"]).dtype == np.float16
