"""Imported features beside embeddings made here: joined, compared, in a chain."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.evaluation.tile_set import (
    check_same_tiles,
    read_tile_set,
    read_values,
)
from mshisto_ray.jobs import import_h5
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.input.scales import open_chain
from mshisto_ray.mil.input.source import open_source
from mshisto_ray.prediction.tile_bag import read_slide
from mshisto_ray.representation.views import ViewConfig, open_views
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.head.config import TileHeadConfig
from mshisto_ray.tile_classification.head.samples import read_samples

SLIDES = ["s0", "s1", "s2"]


def numbers(table):
    names = ("mpp", "row", "col")
    return np.stack([table[name].to_numpy().astype(float) for name in names], 1)


def write(file, layout, features, places, extent):
    """As each tool lays a slide's features out; ``places`` in level-0 px of 0.5 um."""
    if layout == "stamp":
        file["feats"], file["coords"] = features.astype(np.float32), places * 0.5
        file.attrs.update(tile_size_um=extent * 0.5, tile_size_px=100, unit="um")
        return
    file["features"] = features
    clam = {"patch_size": extent // 2, "patch_level": 1, "downsample": (2.0, 2.0)}
    trident = {"patch_size": 100, "patch_size_level0": extent, "overlap": 0}
    attributes = clam if layout == "clam" else trident
    file.create_dataset("coords", data=places).attrs.update(attributes)


@pytest.fixture
def study(plain, stages, tmp_path):
    """Tiles, embeddings, and a function that has features of a scale imported."""
    classes = (["A"] * 9 + ["B"] * 9) * 2
    tiles = stages.tiles(dict.fromkeys(SLIDES, classes))
    own = stages.embeddings(numbers, "own")
    lines = [f"{name}.tiff,0.5" for name in SLIDES]
    (tmp_path / "cohort.csv").write_text("\n".join(["path,mpp", *lines]) + "\n")

    def take(name, mpp=0.5, move=0, side=None, encoder="theirs", layout="trident"):
        folder = tmp_path / f"{name}_h5"
        folder.mkdir()
        for slide_id in SLIDES:
            found = EmbeddingDirectory(own).read(slide_id, mpp, own_only=False)
            extent = side or int(found.extent[0])
            step = np.stack([found.col, found.row], 1) * extent
            with h5py.File(folder / f"{slide_id}.h5", "w") as file:
                write(file, layout, found.values + 100.0, step + move, extent)
        raw = {
            "features": str(folder), "cohort": str(tmp_path / "cohort.csv"),
            "out": str(tmp_path / name), "encoder": encoder, "mpp": mpp,
            "tile_px": 100, "check_slides": False, "runtime": {"actors": 1},
        }  # fmt: skip
        import_h5.run(configs.validate(import_h5.ImportConfig, raw))
        return tmp_path / name

    return tiles, own, take, CacheConfig(dir=tmp_path / "cache", max_gib=1)


def test_they_are_views_beside_embeddings_made_here(study):
    _, own, take, cache = study
    fine, coarse = take("fine"), take("coarse", 1.0)
    views = [
        ViewConfig(embeddings=own, mpp=0.5),
        ViewConfig(embeddings=fine, mpp=0.5),
        ViewConfig(embeddings=coarse, mpp=1.0),
    ]
    joined = open_views(views, SLIDES, cache)
    values = joined.features.read(0)
    assert not joined.notes
    np.testing.assert_array_equal(values[:, 3:6], values[:, :3] + 100)
    np.testing.assert_array_equal(values[:, 7:9], values[:, 1:3] // 2 + 100)


def test_tiles_that_lie_elsewhere_are_not_joined(study):
    _, own, take, cache = study
    first = ViewConfig(embeddings=own, mpp=0.5)
    for name, changes in (("moved", {"move": 30}), ("wide", {"side": 105})):
        views = [first, ViewConfig(embeddings=take(name, **changes), mpp=0.5)]
        with pytest.raises(InputError, match=r"views\.1: most tiles of .* do not lie"):
            open_views(views, SLIDES, cache)
    nearly = [first, ViewConfig(embeddings=take("nearly", move=3), mpp=0.5)]
    assert open_views(nearly, SLIDES, cache).widths == (3, 3)


def test_they_are_compared_on_the_same_tiles(study):
    tiles, own, take, _ = study
    directory = TileDirectory(tiles)
    encoders = {"own": EmbeddingDirectory(own), "theirs": EmbeddingDirectory(take("a"))}
    check_same_tiles(directory, encoders)
    found = read_tile_set(directory, encoders, SLIDES, 0.5)
    ours, theirs = (read_values(encoder, found) for encoder in encoders.values())
    assert len(ours) > 30
    np.testing.assert_array_equal(theirs, ours + 100)
    with pytest.raises(InputError, match=r"scale: theirs has no features at 1 um/px"):
        read_tile_set(directory, encoders, SLIDES, 1.0)
    moved = {"theirs": EmbeddingDirectory(take("b", move=40))}
    with pytest.raises(InputError, match=r"theirs: most tiles of .* do not lie"):
        read_tile_set(directory, moved, SLIDES, 0.5)


def test_they_are_a_scale_of_bags(study):
    _, own, take, cache = study
    fine = EmbeddingDirectory(own)
    coarse = EmbeddingDirectory(take("coarse", 1.0))
    chain = open_chain([coarse, fine], [1.0, 0.5], SLIDES, cache)
    member = chain.members["s0"]
    parents = chain.features.read(member)
    children = chain.finer[0].read(member)
    counts = chain.finer[0].children[member].counts
    np.testing.assert_array_equal(
        children[:, 1:] // 2, np.repeat(parents[:, 1:] - 100, counts, axis=0)
    )
    assert not chain.notes
    wide = EmbeddingDirectory(take("wide", 1.0, side=230))
    far = EmbeddingDirectory(take("far", 1.0, move=9000))
    for other in (wide, far):
        with pytest.raises(InputError, match=r"scales: most tiles of .* in no tile of"):
            open_chain([other, fine], [1.0, 0.5], SLIDES, cache)


def around(coarse, fine, side):
    """By a plain loop: the coarse tile that holds each fine centre, or -1."""
    found = []
    for x, y in fine:
        middle = x + side / 2, y + side / 2
        held = [
            i
            for i, corner in enumerate(coarse)
            if all(
                at <= m < at + 2 * side for at, m in zip(corner, middle, strict=True)
            )
        ]
        found.append(held[0] if held else -1)
    return np.array(found)


def corners(path, mpp, slide_id):
    found = EmbeddingDirectory(path).read(slide_id, mpp, own_only=False)
    return np.stack([found.x, found.y], 1).tolist(), found.values


@pytest.mark.parametrize("layout", ["trident", "clam", "stamp"])
def test_two_scales_off_our_grid_join_by_the_tile_around_the_centre(study, layout):
    _, _, take, cache = study
    fine = take("fine", move=37, layout=layout)
    coarse = take("coarse", 1.0, move=95, layout=layout)
    views = [
        ViewConfig(embeddings=fine, mpp=0.5), ViewConfig(embeddings=coarse, mpp=1.0)
    ]  # fmt: skip
    joined = open_views(views, SLIDES, cache)
    lost = 0
    for at, slide_id in enumerate(SLIDES):
        (small, values), (large, theirs) = (
            corners(path, mpp, slide_id) for path, mpp in ((fine, 0.5), (coarse, 1.0))
        )
        parent = around(large, small, 100)
        lost += (parent < 0).sum()
        wanted = np.concatenate([values, theirs[parent]], 1)[parent >= 0]
        np.testing.assert_array_equal(joined.features.read(at), wanted)
    assert lost and joined.notes == (
        f"views: {lost} tiles dropped: no embedding at 1 um/px in {coarse}; "
        f"{joined.features.counts.sum()} are left",
    )
    directories = [EmbeddingDirectory(coarse), EmbeddingDirectory(fine)]
    chain = open_chain(directories, [1.0, 0.5], SLIDES, cache)
    assert len(chain.notes) == 1
    assert chain.notes[0].startswith(f"scales: {lost} tiles of 0.5 um/px in {fine} are")
    (small, values), (large, _) = (
        corners(path, mpp, "s1") for path, mpp in ((fine, 0.5), (coarse, 1.0))
    )
    parent = around(large, small, 100)
    order = np.argsort(parent, kind="stable")[(parent < 0).sum() :]
    member = chain.members["s1"]
    np.testing.assert_array_equal(chain.finer[0].read(member), values[order])
    counts = [(parent == i).sum() for i in range(len(large))]
    assert chain.finer[0].children[member].counts.tolist() == counts
    # A head is applied to the same links.
    head = SimpleNamespace(scales=(1.0, 0.5), scale=1.0, encoder=None)
    slide = read_slide(head, directories, "s1")
    assert slide.children[0].counts.tolist() == counts
    np.testing.assert_array_equal(slide.finer[0].values, values[order])


def test_a_centre_on_the_edge_of_two_tiles_is_in_the_one_that_begins_there(study):
    """Moved by half a fine tile, an edge runs through every second centre."""
    _, own, take, cache = study
    views = [
        ViewConfig(embeddings=own, mpp=0.5),
        ViewConfig(embeddings=take("coarse", 1.0, move=50), mpp=1.0),
    ]
    joined = open_views(views, SLIDES, cache)
    assert not joined.notes
    places = np.stack(joined.places[0], 1)
    np.testing.assert_array_equal(joined.features.read(0)[:, 4:] - 100, places // 2)


def test_points_mean_the_tiles_of_features_off_our_grid(study, tmp_path):
    _, _, take, cache = study
    theirs = take("moved", move=37)
    stored = EmbeddingDirectory(theirs).read("s1", 0.5, own_only=True)
    lines = ["slide_id,x,y,label"]
    for slide_id in SLIDES:
        found = EmbeddingDirectory(theirs).read(slide_id, 0.5, own_only=True)
        # The first and the last pixel of each tile: of our grid other tiles.
        lines += [
            f"{slide_id},{x + at},{y + at},{'ab'[i % 2]}"
            for i, (x, y) in enumerate(zip(found.x, found.y, strict=True))
            for at in (0, 99)
        ]
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "s0,5,5,a"]) + "\n")
    raw = {
        "embeddings": str(theirs),
        "target": {"table": str(tmp_path / "labels.csv")},
        "runtime": {"cache": cache.model_dump()},
    }
    tiles = read_samples(configs.validate(TileHeadConfig, raw))
    here = np.flatnonzero(tiles.slide == 1)
    np.testing.assert_array_equal(tiles.read(here), stored.values)
    assert [tiles.classes[c] for c in tiles.target[here]] == [
        "ab"[i % 2] for i in range(len(here))
    ]
    assert tiles.notes == (
        "target.table: 1 points of slide 's0' lie in no tile that is embedded at 0.5 "
        "um/px",
    )


def test_off_our_grid_they_are_bags_and_labelled_tiles_by_themselves(study, tmp_path):
    _, _, take, cache = study
    theirs = take("moved", move=30)
    lines = [f"{name}.tiff,{name},{i % 2}" for i, name in enumerate(SLIDES)]
    cohort = tmp_path / "labelled.csv"
    cohort.write_text("\n".join(["path,slide_id,label", *lines]) + "\n")
    stored = EmbeddingDirectory(theirs).read("s1", 0.5, own_only=True).values
    named = {"embeddings": str(theirs), "cohort": str(cohort)}
    given = configs.validate(InputConfig, named)
    bags = open_source(given, ["label"], None, cache)
    assert [(row.name, row.label) for row in bags.rows] == [
        (name, (str(i % 2),)) for i, name in enumerate(SLIDES)
    ]
    np.testing.assert_array_equal(bags.features.read(1), stored)
    raw = named | {"runtime": {"cache": cache.model_dump()}}
    tiles = read_samples(configs.validate(TileHeadConfig, raw))
    np.testing.assert_array_equal(tiles.read(np.flatnonzero(tiles.slide == 1)), stored)
    assert tiles.classes == ("0", "1")


def test_tiles_elsewhere_give_them_no_class(study, tmp_path):
    tiles, _, take, cache = study
    raw = {"tiles": str(tiles), "target": {"column": "annotation"}}
    raw |= {"runtime": {"cache": cache.model_dump()}}
    for name, move in (("here", 0), ("moved", 30)):
        given = raw | {"embeddings": str(take(name, move=move))}
        if not move:
            found = read_samples(configs.validate(TileHeadConfig, given))
            assert len(found.classes) == 2
            continue
        with pytest.raises(InputError, match=r"tiles: most tiles of .* do not lie"):
            read_samples(configs.validate(TileHeadConfig, given))


def test_an_encoder_is_its_name_and_width_whatever_the_slides(study):
    _, _, take, _ = study
    known = [
        EmbeddingDirectory(path).manifest.recipe["encoder"]
        for path in (take("a"), take("b", 1.0), take("c", encoder="others"))
    ]
    assert known[0] == known[1]
    assert known[0]["digest"] != known[2]["digest"]
    assert len(known[0]["digest"]) == 32
