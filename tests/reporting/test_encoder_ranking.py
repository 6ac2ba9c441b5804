"""Which encoder, which are tied with it, and which of these costs least, in words."""

import numpy as np
import pytest

from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.encoder_ranking import EncoderFacts, conclusion

METRIC = "kappa"
FACTS = {
    "wide": EncoderFacts(1024, 10.0),
    "narrow": EncoderFacts(512, 5.0),
    "floor: colour": EncoderFacts(21, 90.0),
}


def scores(value, spread=0.0):
    """A metric whose replicates lie around its value, for all encoders alike."""
    draws = np.random.default_rng(0).normal(0, 1, 200)
    return TileMetrics({METRIC: value}, {METRIC: value + spread * draws}, {})


def test_ties_and_their_cost():
    found = {
        "wide": scores(0.9),
        "narrow": scores(0.9, 0.01),
        "floor: colour": scores(0.6),
    }
    text = conclusion({"dense": found}, FACTS, METRIC, ["floor: colour"])
    assert "By dense wide is first" in text and "tied with it: narrow." in text
    assert "narrowest is narrow (1,024 bytes a tile)" in text
    assert "the fastest wide (10.0 images a second)" in text
    assert "floor" not in text


def test_the_best_alone_and_other_probes():
    found = {"wide": scores(0.9), "narrow": scores(0.8)}
    other = {"wide": scores(0.7), "narrow": scores(0.8)}
    text = conclusion({"dense": found, "knn": other}, FACTS, METRIC, [])
    assert "no other encoder is tied with it" in text
    assert text.endswith("By knn the first group is: narrow.")


@pytest.mark.parametrize("first", ["wide", "floor: colour"])
def test_a_floor_that_is_tied_is_a_warning(first):
    tied = {name: scores(0.9, 0.1) for name in ("wide", "floor: colour")}
    found = {first: scores(0.91, 0.2), "narrow": scores(0.5)}
    text = conclusion({"dense": tied | found}, FACTS, METRIC, ["floor: colour"])
    assert f"By dense {first} is first" in text
    assert "these tiles are no reason to choose any" in text
    assert "Of these" not in text
