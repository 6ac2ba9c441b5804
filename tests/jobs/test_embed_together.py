"""Several products of one read of the tiles: each as if it had been made alone."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import tifffile
from fixtures.parts import held

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.embedding.worker import EmbedWork
from mshisto_ray.jobs import embed, tile
from mshisto_ray.jobs._embed_config import EmbedConfig
from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.slides._native import NativeSlide
from mshisto_ray.store import schema
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.record import readings_of

FLOOR = {"name": "colour_stats"}
FEW = {"name": "colour_stats", "quantiles": [0.5]}


@pytest.fixture(scope="module")
def tiled(plainly, tmp_path_factory, write_slide):
    """A sound slide, and one with a native tile that cannot be decoded."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(("sound", "damaged")):
        write_slide(folder / f"{name}.tiff", seed)
    with tifffile.TiffFile(folder / "damaged.tiff") as file:
        page = file.pages[0]
        place, size = page.dataoffsets[6], page.databytecounts[6]
    with (folder / "damaged.tiff").open("r+b") as file:
        file.seek(place + 200)
        file.write(b"\xff\xd9" * ((size - 200) // 2))
    (folder / "cohort.csv").write_text("path\nsound.tiff\ndamaged.tiff\n")
    raw = {"cohort": folder / "cohort.csv", "out": folder / "tiles"}
    raw |= {"tile_px": 64, "chunk_tiles": 12}
    with plainly():
        tile.run(configs.validate(tile.TileConfig, raw))
    return folder / "tiles"


def run(tiles, out, **changes):
    raw = {"tiles": tiles, "out": out, "batch_size": 16, "runtime": {"actors": 1}}
    embed.run(configs.validate(EmbedConfig, raw | changes))


@pytest.fixture(scope="module")
def alone(tiled, plainly):
    """Directories that each encoder made by itself."""
    with plainly():
        for name, encoder in (("floor", FLOOR), ("few", FEW)):
            run(tiled, tiled.parent / "alone" / name, encoder=encoder)
    return tiled.parent / "alone"


def assert_same(first, second, recorded=True):
    """Shards with their failures, tables, recipe and recorded config."""
    names = sorted(p.relative_to(first) for p in first.glob("shards/*/*.parquet"))
    assert names == sorted(p.relative_to(second) for p in second.glob("shards/*/*"))
    assert len(names) > 10
    for name in [*names, "failures.parquet", "slides.parquet"]:
        one, two = pq.read_table(first / name), pq.read_table(second / name)
        assert one.equals(two) and one.schema == two.schema, name
        assert read_metadata(first / name) == read_metadata(second / name), name
    told = [json.loads((d / "manifest.json").read_text()) for d in (first, second)]
    assert told[0]["recipe"] == told[1]["recipe"]
    if recorded:
        assert told[0]["recorded"] | {"out": ""} == told[1]["recorded"] | {"out": ""}
    assert not list((second / "attempts").iterdir())


def test_each_directory_is_what_its_encoder_makes_alone(
    local_ray, tiled, alone, tmp_path
):
    run(tiled, tmp_path, encoders={"floor": FLOOR, "few": FEW})
    for name in ("floor", "few"):
        assert_same(alone / name, tmp_path / name)
    failures = pq.read_table(tmp_path / "few" / "failures.parquet").to_pylist()
    assert {(f["slide_id"], f["error"]) for f in failures} == {
        ("damaged", "UnreadableRegion")
    }


def test_pixels_are_read_once(tiled, tmp_path, monkeypatch):
    """In this process: a worker's reads cannot be counted."""
    reads = []
    real = NativeSlide.read
    monkeypatch.setattr(
        NativeSlide, "read", lambda self, *a: reads.append(a) or real(self, *a)
    )
    counts = []
    for names in (("a",), ("a", "b")):
        work = EmbedWork(
            tiled,
            {tmp_path / str(len(names)) / n: configs.validate(
                EmbedConfig, {"tiles": tiled, "out": tmp_path, "encoder": FLOOR}
            ).encoder for n in names},
            16,
            "float16",
        )  # fmt: skip
        embed.make_embedder(work, "cpu", 1)({"slide_id": "sound", "chunk": 0})
        counts.append(len(reads))
    assert counts[1] == 2 * counts[0] > 0


def test_threads_that_read_make_no_difference(plain, tiled, alone, tmp_path):
    check_reading("threads", tiled, alone, tmp_path)


def test_actors_that_read_make_no_difference(local_ray, tiled, alone, tmp_path):
    check_reading("actors", tiled, alone, tmp_path)


def check_reading(by, tiled, alone, tmp_path):
    runtime = {"actors": 1, "reading": {"by": by, "num": 1}}
    run(tiled, tmp_path / "few", encoder=FEW, runtime=runtime)
    made = json.loads((tmp_path / "few" / "manifest.json").read_text())
    assert made["recorded"]["runtime"]["reading"] == {"by": by, "num": 1}
    assert_same(alone / "few", tmp_path / "few", recorded=False)


def test_readers_that_have_no_room_are_refused(local_ray, tiled, tmp_path):
    with pytest.raises(InputError, match=r"3 readers each need 4 CPUs, .* has 2"):
        runtime = {"actors": 1, "reading": {"by": "actors", "num": 3}}
        run(tiled, tmp_path, encoder=FEW, runtime=runtime)


def test_tiles_are_kept_as_they_were_read(plain, tiled, alone, tmp_path):
    """Beside the embeddings, row for row; resumed; another quality is refused."""
    out = tmp_path / "few"
    run(tiled, out, encoder=FEW, pixels_out=True)
    assert_same(alone / "few", out, recorded=False)
    pixels = out / "pixels"
    places = schema.PIXELS.names[:-1]
    slide = open_slide(tiled.parent / "sound.tiff")
    readings = readings_of(TileDirectory(tiled).slides["sound"])
    for path in sorted(pixels.glob("shards/*/*.parquet")):
        kept = pq.read_table(path)
        assert kept.schema.equals(schema.PIXELS)
        embedded = pq.read_table(out / path.relative_to(pixels))
        assert kept.select(places).equals(embedded.select(places))
        if path.parent.name == "sound":
            row = kept.slice(kept.num_rows // 2, 1).to_pylist()[0]
            tile = read_tile(slide, readings[row["mpp"]], row["x"], row["y"], 64)
            found = simplejpeg.decode_jpeg(row["jpeg"], "RGB")
            assert np.abs(found.astype(int) - tile).mean() < 12
    for table in ("failures.parquet", "slides.parquet"):
        assert pq.read_table(pixels / table).equals(pq.read_table(out / table))
    lost = sorted(pixels.glob("shards/sound/*.parquet"))[1]
    before = pq.read_table(lost)
    lost.unlink()
    run(tiled, out, encoder=FEW, pixels_out=True)
    assert pq.read_table(lost).equals(before)
    with pytest.raises(InputError, match="quality: 90 -> 50"):
        run(tiled, out, encoder=FEW, pixels_out=True, pixels_quality=50)


def test_what_is_done_is_kept_and_only_the_rest_is_made(
    plain, tiled, alone, tmp_path, capfd
):
    """One directory finished, the other cut short: as if each were run again."""
    for name in ("floor", "few"):
        shutil.copytree(alone / name, tmp_path / name)
    lost = sorted((tmp_path / "few").glob("shards/sound/*.parquet"))[2:4]
    for path in lost:
        path.unlink()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/shards/*/*.parquet")}
    run(tiled, tmp_path, encoders={"floor": FLOOR, "few": FEW})
    said = capfd.readouterr().out
    for name, missing in (("floor", 0), ("few", 2)):
        line = rf"embed: (\d+) of (\d+) chunks already done -> {tmp_path / name}\n"
        done, total = map(int, re.search(line, said).groups())
        assert total - done == missing
    for name in ("floor", "few"):
        assert_same(alone / name, tmp_path / name)
    assert all(p.stat().st_mtime_ns == before[p] for p in before), "done again"


def test_a_users_recipe_embeds_and_its_doubts_are_said(plain, tiled, tmp_path, capfd):
    (written,) = held("mshisto_ray.encoders", "recipe", "EXAMPLES", [])
    given = {"name": "recipe"} | written(tmp_path, unconfirmed=["its mean"])
    run(tiled, tmp_path / "ours", encoder=given)
    assert EmbeddingDirectory(tmp_path / "ours").dim == 48
    said = capfd.readouterr()
    assert (said.out + said.err).count("ours: no source confirms its mean") == 1


def test_a_list_names_its_directories(tiled, tmp_path):
    def names(*parts):
        raw = {"tiles": tiled, "out": tmp_path, "encoders": list(parts)}
        return list(configs.validate(EmbedConfig, raw).encoders)

    network = {"name": "timm", "model": "hf_hub:a/resnet18", "weights": "random"}
    assert names(FLOOR, network) == ["colour_stats", "hf_hub_a_resnet18"]
    assert names({"name": "checkpoint", "path": "runs/7/encoder/"}) == ["encoder"]
    assert names("uni", {"name": "virchow2"}) == ["uni", "virchow2"]
    with pytest.raises(InputError, match=r"two of them would fill .*'colour_stats'"):
        names(FLOOR, FEW)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "give either encoder or encoders"),
        ({"encoder": FLOOR, "encoders": [FEW]}, "encoder=null or encoders={}"),
        ({"encoders": {"a/b": FLOOR}}, "'a/b' is not a directory name"),
        ({"encoders": [{"name": "hest"}]}, "no 'hest' in encoders"),
        ({"encoders": {"pixels": FLOOR}}, "'pixels' is reserved for the tiles"),
        ({"encoder": FLOOR, "compile": True}, "colour_stats has no network to compile"),
    ],
)
def test_unclear_encoders_are_refused(tiled, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        run(tiled, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_an_embeddings_directory_is_no_folder_of_them(tiled, alone):
    with pytest.raises(InputError, match="is an embeddings directory itself"):
        run(tiled, alone / "floor", encoders=[FEW])
    assert EmbeddingDirectory(alone / "floor").dim == 21


def test_weights_are_of_an_encoder_that_is_a_name_alone():
    raw = {"tiles": "t", "out": "o", "weights": "/models/virchow2"}
    given = configs.validate(EmbedConfig, raw | {"encoder": "virchow2"})
    part = {"name": "virchow2", "weights": "/models/virchow2"}
    assert given == configs.validate(
        EmbedConfig, {"tiles": "t", "out": "o", "encoder": part}
    )
    for encoder in ({"encoder": part}, {"encoders": ["uni"]}):
        with pytest.raises(InputError, match="weights: of encoder=NAME alone"):
            configs.validate(EmbedConfig, raw | encoder)
