import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import (
    _discs,
    draw_batch,
    spatial,
)

EXAMPLES = [
    {"near_um": 100, "far_um": 250},
    {"near_um": 100, "far_um": 250, "in_batch": True},
    {
        "near_um": 70,
        "far_um": 1e6,
        "far_fallback": "other_slide",
        "in_batch": True,
        "other_slides": "negative",
    },
]

METRICS = ["euclidean", "chebyshev"]


def distance(index, a, b, metric):
    delta = abs(index.centre_um(np.array([a]))[0] - index.centre_um(np.array([b]))[0])
    return delta.max() if metric == "chebyshev" else np.hypot(*delta)


def partners(index, tile, metric, near=None, far=None):
    """All partners of a tile by looking at every tile of the cohort."""
    tiles = np.arange(len(index))
    own = index.layer(np.array([tile]))[0]
    found = []
    for other in tiles[(index.layer(tiles) == own) & (tiles != tile)]:
        d = distance(index, tile, other, metric)
        if (near and d <= near + 1e-6) or (far and d >= far - 1e-6):
            found.append(int(other))
    return found


# 96 and 160 um are whole tile widths at 32 um: rounding must not decide.
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("limit", [31.0, 96.0, 160.0, 250.0, 1000.0])
def test_draws_are_uniform_over_exactly_the_right_tiles(metric, limit, make_index):
    index = make_index(num_slides=3, side=10)
    generator = np.random.default_rng(0)
    for tile in generator.choice(len(index), 12, replace=False):
        many = np.full(400, tile)
        for kind, draw, count in (
            ("near", _discs.draw_near, _discs.near_counts),
            ("far", _discs.draw_far, _discs.far_counts),
        ):
            wanted = partners(index, tile, metric, **{kind: limit})
            number = count(index, many[:1], limit, metric)[0]
            assert number == len(wanted)
            # Evenly spaced numbers must meet every partner equally often.
            even = (np.arange(400) + 0.5) / 400
            found = draw(index, many, limit, metric, even)
            if not wanted:
                assert (found == -1).all()
                continue
            values, counts = np.unique(found, return_counts=True)
            assert set(values) <= set(wanted)
            if len(wanted) <= 400:
                assert values.tolist() == wanted
                assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_keep_to_micrometres_on_slides_of_three_resolutions(metric, make_index):
    index = make_index(num_slides=6, side=16)
    source = spatial.build(index, near_um=100, far_um=300, metric=metric)
    tiles = source.draw(0, 0, np.arange(300))
    slides = index.slide(tiles[:, 0])
    assert len(np.unique(index.pitch_um[slides, 0])) == 3
    for number, (a, b) in enumerate(tiles):
        assert a != b and index.layer(tiles[number])[0] == index.layer(tiles[number])[1]
        d = distance(index, a, b, metric)
        assert d >= 300 - 1e-6 if number % 2 else d <= 100 + 1e-6


def test_drawn_relations_hold_within_pairs_alone(make_index):
    source = spatial.build(make_index(), near_um=100, far_um=250, far_share=0.25)
    batch = draw_batch(source, 0, 0, 8)
    assert np.argwhere(np.triu(batch.negative)).tolist() == [[6, 7], [14, 15]]
    near = [[2 * p, 2 * p + 1] for p in (0, 1, 2, 4, 5, 6)]
    assert np.argwhere(np.triu(batch.positive)).tolist() == near


@pytest.mark.parametrize("other_slides", ["ignore", "negative"])
@pytest.mark.parametrize("metric", METRICS)
def test_in_batch_relations_against_a_loop(other_slides, metric, make_index):
    index = make_index()
    source = spatial.build(
        index,
        near_um=96,
        far_um=192,
        metric=metric,
        in_batch=True,
        other_slides=other_slides,
    )
    batch = draw_batch(source, 0, 0, 60)
    place = zip(index.slide(batch.tiles), index.scale(batch.tiles), strict=True)
    place = list(place)
    for i, a in enumerate(batch.tiles):
        for j, b in enumerate(batch.tiles):
            near = far = False
            if place[i] == place[j] and a != b:
                d = distance(index, a, b, metric)
                near, far = d <= 96 + 1e-6, d >= 192 - 1e-6
            elif place[i][1] == place[j][1] and other_slides == "negative":
                far = index.patient[place[i][0]] != index.patient[place[j][0]]
            assert (batch.positive[i, j], batch.negative[i, j]) == (near, far)


def test_small_slides_are_refused_or_partnered_elsewhere(make_index):
    index = make_index(side=6)
    keys = {"near_um": 100, "far_um": 5000}
    with pytest.raises(InputError, match="tiles have no other tile 5000 um away"):
        spatial.build(index, **keys).check(8)
    source = spatial.build(index, **keys, far_fallback="other_slide")
    source.check(8)
    tiles = source.draw(0, 0, np.arange(200))[1::2]
    patient = index.patient[index.slide(tiles)]
    assert (patient[:, 0] != patient[:, 1]).all()
    assert (index.scale(tiles[:, 0]) == index.scale(tiles[:, 1])).all()
    assert len(np.unique(index.slide(tiles[:, 1]))) == 6


def test_tiles_without_far_partner_are_counted_and_left_out(make_index):
    # Slides of 0.5, 0.25 and 0.52 um/px: the second is half as large.
    index = make_index(num_slides=3, side=9, holes=0, scales=(0.5,))
    source = spatial.build(index, near_um=40, far_um=300)
    lonely, lost, either, total = source.count_missing()
    tiles = range(len(index))
    near = [bool(partners(index, t, "euclidean", near=40)) for t in tiles]
    far = [bool(partners(index, t, "euclidean", far=300)) for t in tiles]
    both = [a and b for a, b in zip(near, far, strict=True)]
    naive = [kind.count(False) for kind in (near, far, both)]
    assert [lonely, lost, either, total] == [*naive, len(index)]
    assert 0 < lost < total
    source.check(8)
    with pytest.raises(InputError, match=f"{lost} of {total} tiles"):
        spatial.build(index, near_um=40, far_um=300, far_fallback="error").check(8)
    batch = draw_batch(source, 0, 0, 200)
    # Another anchor was drawn for nearly all of them.
    assert batch.missing < 15
    far = batch.tiles.reshape(-1, 2)[1::2]
    far = far[far[:, 0] != far[:, 1], 0]
    assert set(index.slide(far)) == {0, 2}


def test_a_part_of_the_cohort_without_the_scale_gives_pairs_without_relation(
    make_index,
):
    whole = make_index()
    fine = whole.subset(np.flatnonzero(whole.scale(np.arange(len(whole))) == 0))
    source = spatial.build(fine, near_um=100, far_um=200, mpp=1.0)
    batch = draw_batch(source, 0, 0, 8)
    assert batch.missing == 8 and not (batch.positive | batch.negative).any()


def test_a_pair_without_partner_has_no_relation(make_index):
    index = make_index(side=12, scales=(0.5,))
    # Two tiles far from the others are all that have far partners.
    source = spatial.build(index, near_um=40, far_um=500)
    batch = draw_batch(source, 0, 0, 100)
    assert batch.missing > 0
    inert = np.flatnonzero(batch.tiles[::2] == batch.tiles[1::2])
    assert len(inert) == batch.missing
    for pair in inert:
        assert not batch.positive[2 * pair].any() and not batch.negative[2 * pair].any()


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"near_um": 300, "far_um": 200}, "must be above near_um"),
        ({"near_um": 3, "far_um": 200}, "below the distance between tiles"),
        ({"near_um": 90, "far_um": 200, "mpp": 3.0}, "no tiles at 3 um/px"),
    ],
)
def test_thresholds_are_checked(keys, message, make_index):
    with pytest.raises(InputError, match=message):
        spatial.build(make_index(), **keys).check(8)


def test_one_scale_alone(make_index):
    index = make_index()
    source = spatial.build(index, near_um=200, far_um=300, mpp=1.0)
    tiles = source.draw(0, 0, np.arange(500))
    assert set(index.scale(tiles.reshape(-1))) == {1}
    assert set(index.slide(tiles[:, 0])) == set(range(6))


def test_spans_is_the_largest_distance_of_any_two(make_index):
    index = make_index(num_slides=4, side=9, holes=0.5)
    for layer in range(len(index.starts) - 1):
        tiles = np.arange(index.starts[layer], index.starts[layer + 1])
        centre = index.centre_um(tiles)
        largest = max(np.hypot(*(a - b)) for a in centre for b in centre)
        assert _discs.spans(index, layer, largest)
        assert not _discs.spans(index, layer, largest * 1.001)
