"""Imported features beside embeddings made here: joined, compared, in a chain."""

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


@pytest.fixture
def study(plain, stages, tmp_path):
    """Tiles, embeddings, and a function that has features of a scale imported."""
    classes = (["A"] * 9 + ["B"] * 9) * 2
    tiles = stages.tiles(dict.fromkeys(SLIDES, classes))
    own = stages.embeddings(numbers, "own")
    lines = [f"{name}.tiff" for name in SLIDES]
    (tmp_path / "cohort.csv").write_text("\n".join(["path", *lines]) + "\n")

    def take(name, mpp=0.5, move=0, side=None, encoder="theirs"):
        folder = tmp_path / f"{name}_h5"
        folder.mkdir()
        for slide_id in SLIDES:
            found = EmbeddingDirectory(own).read(slide_id, mpp, own_only=False)
            extent = side or int(found.extent[0])
            step = np.stack([found.col, found.row], 1) * extent
            attributes = {"patch_size": 64, "patch_size_level0": extent, "overlap": 0}
            with h5py.File(folder / f"{slide_id}.h5", "w") as file:
                file["features"] = found.values + 100.0
                file.create_dataset("coords", data=step + move).attrs.update(attributes)
        raw = {
            "features": str(folder), "cohort": str(tmp_path / "cohort.csv"),
            "out": str(tmp_path / name), "encoder": encoder, "mpp": mpp,
            "tile_px": 64, "check_slides": False, "runtime": {"actors": 1},
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
    moved = EmbeddingDirectory(take("moved", 1.0, move=80))
    with pytest.raises(InputError, match="scales: most tiles of"):
        open_chain([moved, fine], [1.0, 0.5], SLIDES, cache)


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
