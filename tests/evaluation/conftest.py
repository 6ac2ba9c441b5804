import numpy as np
import pytest

from mshisto_ray.evaluation.exclusion import Exclusion


@pytest.fixture(params=["self", "slide", "block"])
def exclusion_of(request):
    """Makes an exclusion for N rows of slides with 1 to 60 tiles: (N, seed)."""

    def make(num, seed=0):
        rng = np.random.default_rng(seed)
        slide = np.sort(rng.integers(0, max(2, num // 30), num))
        place = rng.integers(0, 8, (num, 2)) * 128.0
        if request.param == "self":
            return Exclusion(np.arange(num))
        if request.param == "slide":
            return Exclusion(slide)
        return Exclusion(slide, place, radius_um=256.0)

    return make
