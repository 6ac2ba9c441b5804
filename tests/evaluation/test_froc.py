import numpy as np
import pytest
import shapely

from mshisto_ray.evaluation.froc import (
    RATES,
    Froc,
    SlideHits,
    match_lesions,
    match_points,
)

BOXES = [shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10)]


def test_a_detection_finds_the_lesion_it_is_in_or_near():
    x, y = np.array([5.0, 12.0, 18.5, 15.0, 50.0]), np.array([5.0, 5.0, 5.0, 5.0, 50.0])
    assert match_lesions(x, y, BOXES, 2.0).tolist() == [0, 0, 1, -1, -1]
    # Equally near both: the first.
    assert match_lesions(x, y, BOXES, 5.0).tolist() == [0, 0, 1, 0, -1]
    assert match_lesions(x, y, [], 5.0).tolist() == [-1] * 5


def test_a_true_point_is_found_once_by_the_highest_detection():
    truth = np.array([[0.0, 0.0], [10.0, 0.0]])
    x, y = np.array([1.0, 0.0, 9.0, 30.0]), np.zeros(4)
    scores = np.array([0.5, 0.9, 0.6, 1.0])
    assert match_points(x, y, scores, truth, 3.0).tolist() == [-1, 0, 1, -1]
    # With a wider tolerance the lower one takes the point that is left.
    assert match_points(x[:2], y[:2], scores[:2], truth, 9.0).tolist() == [1, 0]
    assert match_points(x, y, scores, np.zeros((0, 2)), 3.0).tolist() == [-1] * 4


def hand_made():
    """Two slides, three lesions, of which one is never found."""
    first = SlideHits(
        np.array([0.9, 0.8, 0.7, 0.4]), np.array([0, -1, 0, 1]), num_targets=2, mm2=4.0
    )
    second = SlideHits(
        np.array([0.8, 0.3, 0.3]), np.array([-1, -1, -1]), num_targets=1, mm2=6.0
    )
    return [first, second]


def test_the_curve_of_a_hand_made_example():
    froc = Froc(hand_made())
    assert froc.thresholds.tolist() == [0.9, 0.8, 0.4, 0.3]
    sensitivity, per_slide, per_mm2 = froc.curve()
    np.testing.assert_allclose(sensitivity, [1 / 3, 1 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(per_slide, [0, 1, 1, 2])
    np.testing.assert_allclose(per_mm2, [0, 0.2, 0.2, 0.4])
    # At most 1/4 and 1/2 false positives: the first threshold alone.
    np.testing.assert_allclose(
        froc.sensitivities(), [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3]
    )
    assert froc.score() == pytest.approx((2 / 3 + 4 * 2 / 3) / 6)
    assert hand_made()[0].counts(0.5) == (1, 1) and hand_made()[1].counts(0.3) == (0, 3)


def test_a_slide_that_counts_twice_is_as_good_as_two():
    slides = hand_made()
    weighted = Froc(slides).curve(np.array([2.0, 1.0]))
    twice = Froc([slides[0], slides[0], slides[1]]).curve()
    for one, other in zip(weighted, twice, strict=True):
        np.testing.assert_allclose(one, other)


def by_loops(slides, threshold):
    found = sum(len(set(o.target[o.scores >= threshold]) - {-1}) for o in slides)
    wrong = sum((o.scores[o.target == -1] >= threshold).sum() for o in slides)
    total = sum(o.num_targets for o in slides)
    area = sum(o.mm2 for o in slides)
    return found / total, wrong / len(slides), wrong / area


def test_the_curve_is_that_of_loops_over_thresholds():
    rng = np.random.default_rng(0)
    slides = [
        SlideHits(rng.integers(0, 20, n) / 20, rng.integers(-1, 4, n), 4, 2.5)
        for n in (30, 0, 17, 8)
    ]
    froc = Froc(slides)
    wanted = np.array([by_loops(slides, t) for t in froc.thresholds]).T
    np.testing.assert_allclose(np.stack(froc.curve()), wanted)
    for rate, value in zip(RATES, froc.sensitivities(), strict=True):
        allowed = [s for s, per_slide, _ in wanted.T if per_slide <= rate]
        assert value == pytest.approx(max(allowed, default=0))


def test_without_detections_or_lesions():
    nothing = SlideHits(np.zeros(0), np.zeros(0, int), 2, 1.0)
    assert Froc([nothing]).sensitivities().tolist() == [0] * 6
    no_lesion = SlideHits(np.array([0.5]), np.array([-1]), 0, 1.0)
    assert np.isnan(Froc([no_lesion]).score())
