import itertools

import numpy as np
import pyarrow as pa
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.localisation import annotation_names, localise, summarise
from mshisto_ray.store.shards import write_shard


def write_scores(tmp_path, bag, rows, x=0):
    """Rows of (slide_id, mpp, row, col) with any scores, at ``x`` as all tiles."""
    names = ("attention", "attention_sick", "instance_sick", "child_attention")
    columns = {
        "slide_id": pa.array([r[0] for r in rows]),
        "mpp": pa.array([r[1] for r in rows], pa.float64()),
        "row": pa.array([r[2] for r in rows], pa.int32()),
        "col": pa.array([r[3] for r in rows], pa.int32()),
    }
    columns |= {"x": [x] * len(rows), "y": [0] * len(rows), "extent": [1.0] * len(rows)}
    for name in names:
        values = [dict(r[4]).get(name) for r in rows]
        columns[name] = pa.array(values, pa.float64())
    path = tmp_path / f"{bag}.parquet"
    write_shard(path, [pa.table(columns)], {})
    return path


@pytest.fixture
def tiles(tmp_path, write_tiles):
    marks = {"a": [None, "sign", None, "sign"], "b": [None] * 4, "c": ["sign", None]}
    found = {
        slide_id: {(0.5, i, 7): name for i, name in enumerate(names)}
        for slide_id, names in marks.items()
    }
    found["c"][0.5, 9, 9] = "other"
    return write_tiles(tmp_path / "tiles", found)


def rows(slide_ids, places, values, name="attention"):
    given = zip(slide_ids, places, values, strict=True)
    return [(slide, 0.5, place, 7, {name: value}) for slide, place, value in given]


def test_auroc_within_each_slide_whatever_the_order_of_rows(tmp_path, tiles):
    # Slide a: signs (rows 1, 3) score .9 and .2, the others .5 and .1: 3 of 4 pairs.
    one = rows(["a"] * 4, [3, 0, 1, 2], [0.2, 0.1, 0.9, 0.5])
    # One bag of two slides; b has no sign and no value, d is not among the tiles.
    two = rows(["b", "c", "b", "c", "d"], [0, 0, 1, 1, 0], [0.9, 0.1, 0.8, 0.4, 1])
    paths = [write_scores(tmp_path, "p1", one), write_scores(tmp_path, "p2", two)]
    found = localise(paths, tiles, "sign", "sick")
    assert found == {"attention_auroc_0.5": {"a": 0.75, "c": 0.0}}
    mean = summarise(found, {"a": "p1", "c": "p2"})["attention_auroc_0.5"]
    assert (mean.value, mean.low, mean.high) == (0.375, 0.0, 0.75)


def test_tiles_of_another_grid_are_refused(tmp_path, tiles):
    part = rows("aaaa", range(4), [0.5, 0.9, 0.1, 0.2])
    path = write_scores(tmp_path, "moved", part, x=1)
    with pytest.raises(InputError, match=r"tiles: most tiles of .* do not lie where"):
        localise([path], tiles, "sign", "sick")


def test_scores_of_the_class_and_of_instances(tmp_path, tiles):
    for name, key in (("attention_sick", "class_attention"), ("instance_sick",) * 2):
        part = rows(["a"] * 4, range(4), [0.1, 0.9, 0.5, 0.9], name)
        path = write_scores(tmp_path, name, part)
        key = key.removesuffix("_sick")
        found = localise([path], tiles, "sign", "sick")
        assert found == {f"{key}_auroc_0.5": {"a": 1.0}}
        assert localise([path], tiles, "sign", None) == {}


def test_no_slide_with_a_sign(tmp_path, tiles):
    path = write_scores(tmp_path, "p", rows(["b"] * 4, range(4), range(4)))
    assert localise([path], tiles, "sign", None) == {}


def test_classes_of_annotation_of_some_slides(tiles):
    assert annotation_names(tiles, ["a", "b", "gone"]) == ["sign"]
    assert annotation_names(tiles, ["a", "c"]) == ["other", "sign"]


def naive(scores, truth):
    pairs = [
        (s > t) + (s == t) / 2
        for s, t in itertools.product(scores[truth], scores[~truth])
    ]
    return np.mean(pairs) if pairs else np.nan


def test_children_within_their_parents_and_times_their_parents(tmp_path, write_tiles):
    """Three scales of one slide, tiles missing, against loops over parents."""
    rng = np.random.default_rng(1)
    coarse = [(2.0, r, c) for r, c in itertools.product(range(3), range(4))]
    levels = [coarse]
    for mpp in (1.0, 0.5):
        made = [
            (mpp, 2 * r + dr, 2 * c + dc)
            for _, r, c in levels[-1]
            for dr, dc in itertools.product(range(2), range(2))
            if rng.random() < 0.8
        ]
        levels.append(made)
    places = [place for level in levels for place in level]
    marks = {p: ("sign" if rng.random() < 0.4 else None) for p in places}
    tiles = write_tiles(tmp_path / "tiles", {"s": marks})
    weights = {p: rng.random() for p in coarse}
    shares = {p: rng.random() for p in places if p[0] < 2}
    part = [("s", *p, {"attention": weights[p]}) for p in coarse]
    part += [("s", *p, {"child_attention": v}) for p, v in shares.items()]
    found = localise([write_scores(tmp_path, "s", part)], tiles, "sign", None)

    for mpp, level in ((1.0, levels[1]), (0.5, levels[2])):
        parents = {}
        for p in level:
            parents.setdefault((2 * p[0], p[1] // 2, p[2] // 2), []).append(p)
            weights[p] = weights[2 * p[0], p[1] // 2, p[2] // 2] * shares[p]
        each = [
            naive(np.array([shares[p] for p in held]),
                  np.array([marks[p] is not None for p in held]))
            for held in parents.values()
        ]  # fmt: skip
        own = found[f"child_attention_auroc_{mpp:g}"]["s"]
        assert own == pytest.approx(np.nanmean(each))
    for mpp, level in zip((2.0, 1.0, 0.5), levels, strict=True):
        truth = np.array([marks[p] is not None for p in level])
        wanted = naive(np.array([weights[p] for p in level]), truth)
        assert found[f"attention_auroc_{mpp:g}"]["s"] == pytest.approx(wanted)
