"""Views of a tile against a join by loops, and what cannot be joined."""

import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.points import check, expand
from mshisto_ray.mil import experiment, experiment_recipe
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.representation import joining as module
from mshisto_ray.representation.views import ViewConfig, open_views
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory

SLIDES = ["s0", "s1", "s2", "s3"]


def embed(extra, width):
    def of(table):
        names = ("mpp", "row", "col")
        columns = [table[name].to_numpy().astype(float) for name in names]
        number = np.full(table.num_rows, float(table["slide_id"][0].as_py()[1:]))
        found = np.stack([*columns, number, np.full(table.num_rows, extra)], axis=1)
        return np.tile(found, (1, 2))[:, :width]

    return of


@pytest.fixture
def joined(stages, tmp_path):
    stages.tiles(dict.fromkeys(SLIDES))
    one = stages.embeddings(embed(1.0, 5), "one", lost=[("s1", 2, 3), ("s2", 0, 0)])
    two = stages.embeddings(embed(2.0, 7), "two", lost=[("s1", 2, 4)])
    views = [
        ViewConfig(embeddings=one, mpp=0.5),
        ViewConfig(embeddings=two, mpp=1.0),
        ViewConfig(embeddings=two, mpp=0.5),
    ]
    return views, CacheConfig(dir=tmp_path / "cache", max_gib=1)


def naive(views, slide_id):
    """Every own fine tile with the rows of all views, found by looking at all."""
    read = [
        EmbeddingDirectory(v.embeddings).read(slide_id, v.mpp, own_only=False)
        for v in views
    ]
    found = []
    for i, (row, col) in enumerate(zip(read[0].row, read[0].col, strict=True)):
        if not read[0].own[i]:
            continue
        parts = []
        for view, tiles in zip(views, read, strict=True):
            k = round(view.mpp / 0.5)
            at = [
                j
                for j in range(len(tiles.row))
                if (tiles.row[j], tiles.col[j]) == (row // k, col // k)
            ]
            parts += [tiles.values[at[0]]] if at else []
        if len(parts) == len(views):
            found.append(np.concatenate(parts))
    return np.stack(found)


@pytest.mark.parametrize("cached", [True, False])
def test_views_are_joined_by_tile_identity(joined, cached):
    views, cache = joined
    cache = cache if cached else cache.model_copy(update={"max_gib": 0})
    found = open_views(views, SLIDES[:3], cache)
    assert found.features.slide_ids == SLIDES[:3] and found.widths == (5, 7, 7)
    for index, slide_id in enumerate(SLIDES[:3]):
        wanted = naive(views, slide_id)
        np.testing.assert_array_equal(found.features.read(index), wanted)
        assert found.features.counts[index] == len(wanted)
    row, col = found.places[1]
    assert (2, 3) not in zip(row, col, strict=True)
    assert (2, 4) not in zip(row, col, strict=True), "the other view lost it"


def test_tiles_that_a_view_lacks_are_counted(joined):
    views, cache = joined
    notes = "\n".join(open_views(views, SLIDES, cache).notes)
    # Tiles that the first lost are never looked for; the second lost one more.
    assert "1 tiles dropped: no embedding at 0.5 um/px" in notes and "two" in notes


def test_a_parent_that_failed_drops_its_children(joined, monkeypatch):
    views, cache = joined
    real = module.read_places

    def without(directory, slide_id, mpp, own_only=False):
        row, col = real(directory, slide_id, mpp, own_only)
        if mpp == 1.0 and slide_id == "s0":
            keep = (row != 1) | (col != 1)
            return row[keep], col[keep]
        return row, col

    monkeypatch.setattr(module, "read_places", without)
    found = open_views(views, SLIDES, cache)
    assert found.features.counts[0] == 36 - 4
    assert any("4 tiles dropped: no embedding at 1 um/px" in n for n in found.notes)


def test_a_view_more_or_another_order_is_another_digest(joined):
    views, cache = joined
    digests = {
        open_views(some, SLIDES, cache).digest
        for some in (views, views[::-1], views[:2])
    }
    assert len(digests) == 3


def test_bags_take_views(joined, tmp_path):
    views, cache = joined
    cohort = tmp_path / "cohort.csv"
    rows = [f"{s}.tiff,{s},{'ab'[i % 2]}" for i, s in enumerate(SLIDES)]
    cohort.write_text("path,slide_id,label\n" + "\n".join(rows) + "\n")
    raw = {
        "views": [v.model_dump() for v in views],
        "cohort": cohort,
        "split": {"folds": 2, "validation": 0},
        "early_stopping": None,
        "runtime": {"cache": cache.model_dump()},
    }
    config = configs.validate(ExperimentConfig, raw)
    bags, _ = experiment.load(config)
    assert bags.dims == (19,) and bags.views == (5, 7, 7) and bags.scale == 0.5
    assert len(bags.encoder["views"]) == 3
    assert "views" not in experiment_recipe.recipe(config, bags)
    noise = {"name": "per_view", "sigma": [0.1, 0.2]}
    wrong = configs.validate(ExperimentConfig, {**raw, "noise": noise})
    with pytest.raises(InputError, match="2 strengths for 3 view"):
        experiment.load(wrong)


def test_every_point_of_a_sweep_has_its_own_views(joined, tmp_path):
    views, cache = joined
    cohort = tmp_path / "cohort.csv"
    rows = [f"{s}.tiff,{s},{'ab'[i % 2]}" for i, s in enumerate(SLIDES)]
    cohort.write_text("path,slide_id,label\n" + "\n".join(rows) + "\n")
    one, all_ = ([v.model_dump(mode="json") for v in own] for own in (views[:1], views))
    raw = {
        "views": one,
        "cohort": str(cohort),
        "split": {"folds": 2, "validation": 0},
        "early_stopping": None,
        "runtime": {"cache": cache.model_dump()},
    }
    config = configs.validate(ExperimentConfig, raw)
    found, _ = check(expand(config, {"views": [one, all_]}), None)
    assert len(found) == 2
    assert [p.config.load().dims for p in found.values()] == [(5,), (19,)]
    labels = [p.label for p in found.values()]
    assert labels == ["views=one 0.5", "views=one 0.5 + two 1 + two 0.5"]
    wrong = [one[0], one[0] | {"mpp": 1.0, "colour": "gray"}]
    words = r"axes, at views=one 0\.5 \+ one 1.*: views\.1\.colour: 'gray' is not in"
    with pytest.raises(InputError, match=words):
        check(expand(config, {"views": [one, wrong]}), None)


def test_what_is_left_out_is_named(joined, stages):
    views, cache = joined
    found = open_views(views[:2], SLIDES[:3], cache)
    assert found.notes == ()  # the finest view decides which tiles there are
    some = ViewConfig(
        embeddings=stages.embeddings(embed(3.0, 5), "some", slides=SLIDES[:2]), mpp=1.0
    )
    found = open_views([*views, some], SLIDES, cache)
    assert found.notes == (
        f"views: 2 slides left out, not embedded in {some.embeddings}: s2, s3",
        f"views: 1 tiles dropped: no embedding at 0.5 um/px in {views[2].embeddings}; "
        "70 are left",
    )
    named = [
        (f.slide_id, f.stage, f.error, f.mpp, f.row, f.col) for f in found.failures
    ]
    assert named == [
        ("s2", "train", "NoView", None, None, None),
        ("s3", "train", "NoView", None, None, None),
        ("s1", "train", "NoView", 0.5, 2, 4),
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"mpp": 0.7}, r"views\.1\.mpp: 0\.7 is not in .*; have 0\.5, 1\.0"),
        ({"colour": "gray"}, r"views\.1\.colour: 'gray' is not in .*; have rgb"),
    ],
)
def test_views_that_are_not_there_are_refused(joined, keys, words):
    views, cache = joined
    some = [views[0], views[1].model_copy(update=keys)]
    with pytest.raises(InputError, match=words):
        open_views(some, SLIDES, cache)


def test_a_view_that_is_there_twice_is_refused(joined):
    views, cache = joined
    again = views[0].model_copy(update={"colour": "rgb"})
    with pytest.raises(
        InputError, match=r"views\.2: is views\.0 again \(0\.5 um/px, rgb"
    ):
        open_views([views[0], views[1], again], SLIDES, cache)


def test_views_of_other_tiles_or_files_are_refused(joined, stages):
    views, cache = joined
    grid = {"scales": [0.5, 1.0], "tile_px": 50}
    other = stages.embeddings(embed(1.0, 5), "grid", recipe=grid)
    with pytest.raises(InputError, match=r"views\.1: .* embeds other tiles .*tile_px"):
        open_views([views[0], ViewConfig(embeddings=other, mpp=0.5)], SLIDES, cache)
    other = stages.embeddings(embed(1.0, 5), "file", prints="another")
    words = r"another file of slides 's0', 's1', 's2', 's3' than"
    with pytest.raises(InputError, match=words):
        open_views([views[0], ViewConfig(embeddings=other, mpp=0.5)], SLIDES, cache)
    stages.tables = {"t0": stages.tables["s0"]}
    other = stages.embeddings(embed(1.0, 5), "slides")
    with pytest.raises(InputError, match="no slide is in both"):
        open_views([views[0], ViewConfig(embeddings=other, mpp=0.5)], SLIDES, cache)
