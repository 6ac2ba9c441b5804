"""Features on a grid of their own: tiled at their places, embedded here, evaluated."""

import json

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import embed, evaluate, import_h5, tile
from mshisto_ray.representation.views import ViewConfig, open_views
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory

SLIDES, SIDE, MPP = ["s0", "s1"], 1100, 0.25
# Level-0 pixels of a tile of 64 px at 0.5 um/px; two grids, as of two contours.
EXTENT, GRIDS = 128, (((37, 53), 540), ((590, 21), SIDE))


def places():
    """Corners [N, 2] on two grids, neither of which starts at the slide's corner."""
    grids = [
        np.stack(np.meshgrid(np.arange(x, end - EXTENT, EXTENT),
                             np.arange(y, SIDE - EXTENT, EXTENT)), -1).reshape(-1, 2)
        for (x, y), end in GRIDS
    ]  # fmt: skip
    return np.concatenate(grids)


def values(corners, seed):
    """Noise, and an axis for each half of the slide in which a tile may lie."""
    found = np.random.default_rng(seed).normal(size=(len(corners), 5))
    half = corners[:, 0] + EXTENT / 2 > SIDE / 2
    found[np.arange(len(found)), half.astype(int)] += 6
    return found.astype(np.float32)


def write_trident(folder, name, corners, features):
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["features"] = features
        attributes = {"patch_size": 64, "patch_size_level0": EXTENT, "overlap": 0}
        file.create_dataset("coords", data=corners).attrs.update(attributes)


def write_clam(folder, name, corners, features):
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["features"], file["coords"] = features, corners
    patches = folder.parent / "patches"
    patches.mkdir(exist_ok=True)
    with h5py.File(patches / f"{name}.h5", "w") as file:
        attributes = {"patch_size": EXTENT, "patch_level": 0, "downsample": (1.0, 1.0)}
        file.create_dataset("coords", data=corners).attrs.update(attributes)


def write_stamp(folder, name, corners, features):
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["feats"], file["coords"] = features, corners * MPP
        file.attrs.update({"tile_size_um": EXTENT * MPP, "tile_size_px": 64})


def write_slide2vec(folder, name, corners, features):
    """As docs/jobs.md has users write its vectors and places."""
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["features"], file["coords"] = features, corners


LAYOUTS = {
    "trident": (write_trident, {}),
    "clam": (write_clam, {"coordinates": "patches"}),
    "stamp": (write_stamp, {}),
    "slide2vec": (write_slide2vec, {"extent": EXTENT}),
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, write_slide):
    """Two slides whose halves are outlined."""
    folder = tmp_path_factory.mktemp("places")
    halves = {"left": (0, SIDE // 2), "right": (SIDE // 2, SIDE)}
    features = []
    for name, (x0, x1) in halves.items():
        ring = [[x0, 0], [x1, 0], [x1, 900], [x0, 900], [x0, 0]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        named = {"classification": {"name": name}}
        features.append({"type": "Feature", "geometry": shape, "properties": named})
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "halves.geojson").write_text(text)
    rows = ["path,patient_id,annotation"]
    for seed, name in enumerate(SLIDES):
        write_slide(folder / f"{name}.tiff", seed, (SIDE, SIDE), MPP)
        rows.append(f"{name}.tiff,p{seed},halves.geojson")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder / "cohort.csv"


def run(job, config, **raw):
    given = configs.validate(config, raw | {"runtime": {"mlflow": {"uri": None}}})
    job.check(given)
    job.run(given)
    return given.out


def imported(cohort, folder, layout):
    write, keys = LAYOUTS[layout]
    (folder / "h5").mkdir()
    for seed, name in enumerate(SLIDES):
        write(folder / "h5", name, places(), values(places(), seed))
    if "coordinates" in keys:
        keys = {"coordinates": str(folder / keys["coordinates"])}
    return run(import_h5, import_h5.ImportConfig, features=str(folder / "h5"),
               cohort=str(cohort), out=str(folder / "theirs"), encoder="theirs",
               mpp=0.5, tile_px=64, **keys)  # fmt: skip


def tiled(cohort, out, theirs, **changes):
    keys = {"scales": [0.5], "tile_px": 64, "thumbnail_mpp": 4} | changes
    return run(tile, tile.TileConfig, cohort=str(cohort), out=str(out),
               places=str(theirs), **keys)  # fmt: skip


@pytest.mark.parametrize(
    "layout",
    ["clam", *(pytest.param(name, marks=pytest.mark.slow) for name in
               ("trident", "stamp", "slide2vec"))],
)  # fmt: skip
def test_theirs_and_ours_are_evaluated_and_joined_tile_by_tile(
    plain, cohort, tmp_path, layout
):
    theirs = imported(cohort, tmp_path, layout)
    tiles = tiled(cohort, tmp_path / "tiles", theirs)
    ours = run(embed, embed.EmbedConfig, tiles=str(tiles), out=str(tmp_path / "ours"),
               encoder={"name": "colour_stats"})  # fmt: skip
    one, two = EmbeddingDirectory(theirs), EmbeddingDirectory(ours)
    for name in SLIDES:
        read = [directory.read(name, 0.5) for directory in (one, two)]
        for key in ("row", "col", "x", "y", "extent"):
            np.testing.assert_array_equal(*(getattr(found, key) for found in read))
        assert {(x, y) for x, y in zip(read[0].x, read[0].y, strict=True)} <= {
            tuple(corner) for corner in places().tolist()
        }

    out = run(evaluate, evaluate.EvaluateConfig, encoders={"theirs": str(theirs)},
              tiles=str(tiles), out=str(tmp_path / "evaluation"), near_um=40,
              far_um=120, baselines={"colour_stats": str(ours), "random": str(ours)},
              label={"unannotated": "leave_out"})  # fmt: skip
    scores = pq.read_table(out / "metrics.parquet").to_pandas()
    own = scores[scores["minus"].isna()].set_index(["encoder", "metric"])["value"]
    assert own["theirs", "hit_at_1"] > 0.95
    assert np.isfinite(own["theirs", "auc_spatial"])
    found = pq.read_table(out / "neighbours.parquet").to_pandas()
    # Of the halves as outlined: no tile but on their edge has less than half of one.
    at = {
        (name, row, col): x + EXTENT / 2
        for name in SLIDES
        for row, col, x in TileDirectory(tiles)
        .read(name)
        .select(["row", "col", "x"])
        .to_pandas()
        .itertuples(index=False)
    }
    for slide, row, col, name in zip(
        found["slide_id"], found["row"], found["col"], found["class"], strict=True
    ):
        assert name == ("left" if at[slide, row, col] < SIDE / 2 else "right")

    views = [ViewConfig(embeddings=path, mpp=0.5) for path in (ours, theirs)]
    cache = CacheConfig(dir=tmp_path / "cache", max_gib=1)
    joined = open_views(views, SLIDES, cache)
    assert not joined.notes
    np.testing.assert_array_equal(
        joined.features.read(0)[:, -5:], one.read("s0", 0.5).values
    )


def test_tiles_are_those_of_the_features_with_the_tissue_found_here(
    plain, cohort, tmp_path, write_slide
):
    theirs = imported(cohort, tmp_path, "trident")
    tiles = TileDirectory(tiled(cohort, tmp_path / "tiles", theirs))
    table = tiles.read("s0")
    share = table["tissue"].to_numpy()
    assert table["own"].to_numpy().all()
    assert share.min() == 0 and share.max() > 0.9
    (record, _) = tiles.slides.values()
    # No tile covers another: their tissue is part of the slide's.
    inside = share.sum() * (EXTENT * MPP / 1000) ** 2
    assert 0.5 < inside / record["tissue_mm2"] <= 1.001
    with pytest.raises(InputError, match=r"another recipe .*places"):
        run(tile, tile.TileConfig, cohort=str(cohort), scales=[0.5], tile_px=64,
            thumbnail_mpp=4, out=str(tmp_path / "tiles"))  # fmt: skip
    for changes, said in (
        ({"scales": [0.5, 1.0]}, r"scales: the tiles of .* are at 0.5 um/px: \[0.5\]"),
        ({"tile_px": 128}, "tile_px: the tiles of .* are of 64 px: give 64"),
    ):
        with pytest.raises(InputError, match=said):
            tiled(cohort, tmp_path / "others", theirs, **changes)


def around(coarse, fine):
    """By a plain loop: the tile of twice the side that holds each centre, or -1."""
    found = []
    for corner in fine:
        apart = corner + EXTENT / 2 - coarse
        held = np.flatnonzero(((apart >= 0) & (apart < 2 * EXTENT)).all(axis=1))
        found.append(held[0] if len(held) else -1)
    return np.array(found)


def test_parents_are_found_on_two_grids(plain, cohort, tmp_path, capsys):
    """A fine tile has the vector of its parent: each finds it, and only by place."""
    fine = places()
    line = np.arange(90, SIDE - 2 * EXTENT, 2 * EXTENT)
    coarse = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    parent = around(coarse, fine)
    assert 0 < (parent < 0).sum() < len(fine) / 2
    above = np.random.default_rng(0).normal(size=(len(SLIDES), len(coarse), 16))
    folders = {}
    for name, mpp, corners in (("fine", 0.5, fine), ("coarse", 1.0, coarse)):
        h5, out = tmp_path / f"{name}_h5", tmp_path / name
        h5.mkdir()
        for slide_id, vectors in zip(SLIDES, above, strict=True):
            held = vectors if name == "coarse" else vectors[parent]
            with h5py.File(h5 / f"{slide_id}.h5", "w") as file:
                file["features"] = held.astype(np.float32)
                side = round(EXTENT * mpp / 0.5)
                attributes = {"patch_size": 64, "patch_size_level0": side}
                file.create_dataset("coords", data=corners).attrs.update(attributes)
        run(import_h5, import_h5.ImportConfig, features=str(h5), cohort=str(cohort),
            out=str(out), encoder="theirs", mpp=mpp, tile_px=64)  # fmt: skip
        tiles = tiled(cohort, tmp_path / f"{name}_tiles", out, scales=[mpp])
        ours = run(embed, embed.EmbedConfig, tiles=str(tiles),
                   out=str(tmp_path / f"{name}_ours"),
                   encoder={"name": "colour_stats"})  # fmt: skip
        folders[name] = {"theirs": str(out), "tiles": str(tiles), "ours": str(ours)}
    ours = folders["fine"]["ours"]
    above = dict.fromkeys(("colour_stats", "random"), folders["coarse"]["ours"])
    given = {
        "encoders": {"theirs": folders["fine"]["theirs"]},
        "tiles": folders["fine"]["tiles"], "near_um": 40, "far_um": 120,
        "baselines": {"colour_stats": ours, "random": ours},
        "label": {"column": None},
    }  # fmt: skip
    coarser = {
        "tiles": folders["coarse"]["tiles"],
        "encoders": {"theirs": folders["coarse"]["theirs"]} | above,
    }
    for changes, said in (
        ({"encoders": above}, r"coarse: no scale of .* above 0.5 um/px is embedded"),
        ({"encoders": {"thiers": ours}}, "coarse.encoders: 'thiers' is no encoder"),
    ):
        with pytest.raises(InputError, match=said):
            run(evaluate, evaluate.EvaluateConfig, out=str(tmp_path / "refused"),
                coarse=coarser | changes, **given)  # fmt: skip
    out = run(evaluate, evaluate.EvaluateConfig, out=str(tmp_path / "evaluation"),
              coarse=coarser, **given)  # fmt: skip
    scores = pq.read_table(out / "metrics.parquet").to_pandas()
    own = scores[scores["minus"].isna()].set_index(["encoder", "metric"])["value"]
    assert own["theirs", "parent_recall_at_1"] == 1
    assert own["colour_stats", "parent_recall_at_1"] < 1
    lost = 2 * (parent < 0).sum()
    said = f"{lost} of the {2 * len(fine)} tiles whose parent is searched have their"
    assert said in capsys.readouterr().out
