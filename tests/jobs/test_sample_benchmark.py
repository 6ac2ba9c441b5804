import numpy as np
import pytest

from mshisto_ray.jobs.benchmarks.sample import _SIDE, _cohort, build


def test_the_cohort_has_as_many_tiles_as_asked_for():
    index = _cohort(50_000)
    slide = _SIDE**2 + (_SIDE // 2) ** 2 + (_SIDE // 4) ** 2
    assert len(index) == 4 * slide  # the least number of whole slides
    assert set(index.sizes().tolist()) == {
        _SIDE**2,
        (_SIDE // 2) ** 2,
        (_SIDE // 4) ** 2,
    }
    # Children partition parents: a tile's centre lies in its parent.
    fine = np.arange(index.starts[0], index.starts[1])
    assert index.centre_um(fine).max() < _SIDE * index.pitch_um[0, 0]


def test_each_cohort_is_measured_and_growth_is_the_ratio(tmp_path):
    found = build(tiles=(20_000, 40_000), repeats=1)(tmp_path)
    for name in ("multi_scale", "spatial"):
        small, large = (found[f"sample.{n}.{name}"].value for n in (20_000, 40_000))
        assert small > 0
        assert found[f"sample.{name}.growth"].value == pytest.approx(large / small)
    assert found["sample.20000.index"].value == 8
