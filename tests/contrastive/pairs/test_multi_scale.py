import itertools

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import (
    _relations,
    draw_batch,
    multi_scale,
)

EXAMPLES = [
    {},
    {"same_slide": "by_distance", "near_um": 1742, "neutral": "negative"},
    {
        "same_slide": "by_distance",
        "far_um": 150,
        "places_per_slide": 1,
        "slides_per_batch": 1,
    },
]

RULES = [
    _relations.Rules(same_slide, neutral, 80.0, 200.0)
    for same_slide, neutral in itertools.product(
        ("positive", "negative", "ignore", "by_distance"),
        ("ignore", "by_class", "negative"),
    )
] + [_relations.Rules("by_distance", "ignore", None, 200.0)]


def relation(index, a, b, rules):
    """+1, -1 or 0 for two tiles, one rule after the other."""
    (sa, sb), (la, lb) = index.slide(np.array([a, b])), index.scale(np.array([a, b]))
    if a == b:
        return 0
    if sa == sb:
        k = [round(m / index.scales[0]) for m in index.scales]
        places = []
        for t, level in ((a, la), (b, lb)):
            r, c = index.row(np.array([t]))[0], index.col(np.array([t]))[0]
            f = max(k[la], k[lb]) // k[level]
            places.append((r // f, c // f))
        if places[0] == places[1]:
            return int(abs(la - lb) == 1)
        if rules.same_slide == "by_distance":
            d = np.hypot(*np.subtract(*index.centre_um(np.array([a, b]))))
            return int(d <= (rules.near_um or -1)) - int(d >= rules.far_um)
        if la == lb:
            return {"positive": 1, "negative": -1, "ignore": 0}[rules.same_slide]
    ca, cb = index.label[sa], index.label[sb]
    if ca >= 0 and cb >= 0 and ca != cb and la == lb:
        return -1
    if rules.neutral == "ignore":
        return 0
    if rules.neutral == "negative":
        return 0 if sa != sb and index.patient[sa] == index.patient[sb] else -1
    return 0 if min(ca, cb) < 0 else (1 if ca == cb else -1)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_relations_against_a_loop(rules, make_index):
    index = make_index(side=8, labels=[0, 1, 0, 2, -1, 1])
    generator = np.random.default_rng(0)
    tiles = generator.integers(0, len(index), 70)
    tiles[-1] = tiles[0]
    positive, negative = _relations.relate(index, tiles, rules)
    for i, a in enumerate(tiles):
        for j, b in enumerate(tiles):
            wanted = relation(index, a, b, rules) if i != j else 0
            assert int(positive[i, j]) - int(negative[i, j]) == wanted
            assert not (positive[i, j] and negative[i, j])


def test_a_pair_is_a_tile_and_one_of_its_finer_tiles(make_index):
    index = make_index()
    source = multi_scale.build(index)
    coarse = set()
    for step in range(8):
        tiles = source.draw(0, step, np.arange(40))
        main, finer = tiles.T
        scales = index.scale(main)
        assert len(set(scales)) == 1
        coarse |= set(scales)
        np.testing.assert_array_equal(index.scale(finer), scales - 1)
        np.testing.assert_array_equal(index.slide(finer), index.slide(main))
        np.testing.assert_array_equal(index.row(finer) // 2, index.row(main))
        np.testing.assert_array_equal(index.col(finer) // 2, index.col(main))
    assert coarse == {1, 2}


def test_finer_tiles_are_drawn_evenly(make_index):
    index = make_index(num_slides=2, side=4, holes=0.4, scales=(0.5, 1.0))
    source = multi_scale.build(index, neutral="negative")
    tiles = np.concatenate([source.draw(0, s, np.arange(500)) for s in range(40)])
    for main in np.unique(tiles[:, 0]):
        counts = np.unique(tiles[tiles[:, 0] == main, 1], return_counts=True)[1]
        share = counts / counts.sum()
        assert abs(share - 1 / len(counts)).max() < 0.08


def test_batches_are_balanced_and_every_anchor_has_negatives(make_index):
    index = make_index(num_slides=9, labels=[0, 0, 0, 0, 0, 0, 1, 2, -1])
    source = multi_scale.build(index)
    for step in range(5):
        batch = draw_batch(source, 0, step, 12)
        slides = index.slide(batch.tiles)
        assert np.bincount(index.label[slides]).tolist() == [8, 8, 8]
        assert batch.negative.any(axis=1).all() and batch.positive.any(axis=1).all()
        # Two places of a class come from one slide, visited together.
        first = slides[::2].reshape(-1, 2, 3)
        np.testing.assert_array_equal(first[:, 0], first[:, 1])


def test_places_of_a_visit_lie_near_each_other_by_distance(make_index):
    index = make_index(labels=[-1] * 6, side=24)
    source = multi_scale.build(
        index,
        same_slide="by_distance",
        near_um=150,
        far_um=400,
        neutral="negative",
        places_per_slide=3,
    )
    apart = []
    for step in range(10):
        main = source.draw(0, step, np.arange(30))[:, 0].reshape(10, 3)
        assert (
            index.slide(main.ravel()).reshape(10, 3)[:, :1]
            == index.slide(main.ravel()).reshape(10, 3)
        ).all()
        centre = index.centre_um(main.ravel()).reshape(10, 3, 2)
        apart += np.linalg.norm(centre[:, 1:] - centre[:, :1], axis=2).ravel().tolist()
        batch = draw_batch(source, 0, step, 30)
        assert (batch.positive.sum(axis=1) >= 2).mean() > 0.9
    assert max(apart) <= 150 + 1e-6 and min(apart) > 0


@pytest.mark.parametrize("same_slide", ["negative", "by_distance"])
def test_other_places_are_negatives_enough(same_slide, make_index):
    """Without classes, and with pairs of different slides ignored."""
    source = multi_scale.build(
        make_index(labels=[-1] * 6, side=24),
        same_slide=same_slide,
        near_um=140,
        far_um=250,
        places_per_slide=2,
        slides_per_batch=2,
    )
    source.check(16)
    batch = draw_batch(source, 0, 0, 16)
    assert batch.positive.any(axis=1).all()
    assert batch.negative.any(axis=1).mean() > 0.75


def test_visits_of_several_places_need_another_tile_nearby(make_index):
    index = make_index(labels=[-1] * 6, side=24)  # coarse tiles of 128 um
    keys = {"same_slide": "by_distance", "far_um": 400}
    message = r"side is 133\.1 um: .* near_um to 134 or more"
    with pytest.raises(InputError, match=message):
        multi_scale.build(index, near_um=100, places_per_slide=2, **keys)
    multi_scale.build(index, near_um=100, places_per_slide=1, **keys)
    source = multi_scale.build(index, places_per_slide=4, **keys)
    visit = source.draw(0, 0, np.arange(4))[:, 0]
    assert len(set(index.slide(visit))) == 1 and len(set(visit)) > 1


def test_without_near_tiles_any_place_is_drawn_and_only_its_own_is_alike(make_index):
    source = multi_scale.build(
        make_index(labels=[-1] * 6, side=24),
        same_slide="by_distance",
        far_um=250,
        places_per_slide=1,
        slides_per_batch=1,
    )
    batch = draw_batch(source, 0, 0, 16)
    pairs = np.arange(32).reshape(16, 2)
    wanted = np.zeros((32, 32), bool)
    wanted[pairs[:, 0], pairs[:, 1]] = wanted[pairs[:, 1], pairs[:, 0]] = True
    # A place may come twice, and so may lie in another pair's.
    assert batch.positive[wanted].all() and batch.positive.sum() < 3 * wanted.sum()
    assert batch.negative.any(axis=1).mean() > 0.75


def test_slides_without_far_tiles_are_left_out(make_index):
    """Where far tiles are the only negatives; in memory may be a part of a slide."""
    whole = make_index(labels=[-1] * 6, side=24)
    tiles = np.arange(len(whole))
    centre = whole.centre_um(tiles)
    small = np.isin(whole.slide(tiles), (0, 3)) & (centre > 150).any(axis=1)
    keys = {"same_slide": "by_distance", "near_um": 100, "far_um": 250}
    keys |= {"places_per_slide": 1, "slides_per_batch": 1}
    source = multi_scale.build(whole.subset(tiles[~small]), **keys)
    source.check(16)
    index = whole.subset(tiles[~small])
    drawn = [source.draw(0, step, np.arange(16)) for step in range(40)]
    slides = set(index.slide(np.concatenate(drawn).ravel()).tolist())
    assert slides == {1, 2, 4, 5}
    corner = whole.subset(tiles[(centre <= 150).all(axis=1)])
    source = multi_scale.build(corner, **keys)
    main, finer = source.draw(0, 0, np.arange(16)).T
    assert (main == finer).all()  # pairs without a partner, which are counted
    with pytest.raises(InputError, match="no slide has tiles at two scales 250 um"):
        source.check(16)


@pytest.mark.parametrize(
    "labels, keys, pairs, message",
    [
        ([0] * 6, {}, 8, "one class only"),
        ([-1] * 6, {}, 8, "no class labels"),
        (
            [-1] * 6,
            {"same_slide": "by_distance", "near_um": 140, "far_um": 5000},
            8,
            "no slide has tiles at two scales 5000 um apart",
        ),
        (
            [-1] * 6,
            {"same_slide": "by_distance", "near_um": 140, "far_um": 200},
            8,
            "visits 4 slides in 4 visits: set slides_per_batch to 1",
        ),
        (
            [-1] * 6,
            {"same_slide": "negative", "places_per_slide": 1},
            5,
            "visits 5 slides in 5 visits: set slides_per_batch to 1",
        ),
        ([0, 1, 2, 3, 4, 5], {}, 4, "4 places, fewer than the 6 classes: raise it"),
        ([0, 1] * 3, {"scales": (0.5, 2.0)}, 8, "not neighbours"),
        ([0, 1] * 3, {"scales": (0.5, 3.0)}, 8, "no tiles at 3 um/px"),
    ],
)
def test_what_gives_no_negatives_is_refused(labels, keys, pairs, message, make_index):
    with pytest.raises(InputError, match=message):
        multi_scale.build(make_index(labels=labels), **keys).check(pairs)


def test_a_part_of_the_cohort_without_a_class_still_gives_pairs(make_index):
    whole = make_index(labels=[0, 0, 1, 1, 2, 2])
    tiles = np.arange(len(whole))
    index = whole.subset(tiles[whole.slide(tiles) < 4])
    drawn = multi_scale.build(index).draw(0, 0, np.arange(30))
    assert set(index.slide(drawn.ravel())) == {0, 1, 2, 3}
    np.testing.assert_array_equal(index.row(drawn[:, 1]) // 2, index.row(drawn[:, 0]))


def test_a_block_draws_where_it_has_tiles(make_index):
    """Small slides have no tile at the coarsest scale; a block may hold only them."""
    whole = make_index(labels=[0, 1, 0, 1, 0, 1])
    tiles = np.arange(len(whole))
    small = np.isin(whole.slide(tiles), [0, 2, 3])
    lacking = whole.subset(tiles[~(small & (whole.scale(tiles) == 2))])
    slide, scale = (
        get(np.arange(len(lacking))) for get in (lacking.slide, lacking.scale)
    )
    for slides in ([0, 2, 3], [0, 1, 2], [0, 1, 2, 3, 4, 5]):
        index = lacking.subset(np.flatnonzero(np.isin(slide, slides)))
        source = multi_scale.build(index)
        for step in range(30):
            main, finer = source.draw(0, step, np.arange(16)).T
            (coarse,) = set(index.scale(main))
            assert set(index.scale(finer)) == {coarse - 1}
            assert (index.row(finer) // 2 == index.row(main)).all()
    finest = lacking.subset(np.flatnonzero(scale == 0))
    # Places without any finer tile are marked as such.
    alone = multi_scale.build(finest).draw(0, 0, np.arange(16))
    assert (alone[:, 0] == alone[:, 1]).all() and len(set(alone[:, 0])) > 1


def test_one_scale_is_refused(make_index):
    with pytest.raises(InputError, match="needs tiles at two scales"):
        multi_scale.build(make_index(scales=(0.5,)))


def test_without_labels_every_other_place_can_be_negative(make_index):
    index = make_index(labels=[-1] * 6)
    source = multi_scale.build(index, same_slide="negative", neutral="negative")
    source.check(8)
    batch = draw_batch(source, 0, 0, 16)
    assert batch.positive[np.arange(0, 32, 2), np.arange(1, 32, 2)].all()
    assert batch.negative.any(axis=1).all()


@pytest.mark.parametrize("labels", [None, [0, 1, 0, 1, 0, 1]])
def test_a_batch_of_few_slides_visits_them_in_turns(labels, make_index):
    index = make_index(side=8, labels=labels or [-1] * 6)
    source = multi_scale.build(
        index, places_per_slide=4, slides_per_batch=2, neutral="negative"
    )
    seen = set()
    for step in range(12):
        tiles = source.draw(0, step, np.arange(32))[:, 0]
        slides = index.slide(tiles)
        groups = index.label[slides]
        for cls in np.unique(groups):
            held = np.unique(slides[groups == cls])
            # Two draws may be of the same slide.
            assert 1 <= len(held) <= 2
            seen |= set(held.tolist())
        alone = source.draw(0, step, np.arange(7, 9))
        np.testing.assert_array_equal(alone[:, 0], tiles[7:9])
    assert seen == set(range(6))
