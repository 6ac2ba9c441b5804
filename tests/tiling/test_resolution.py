from dataclasses import replace

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.slides import (
    Level,
)
from mshisto_ray.tiling.resolution import check_chain, resolve, served_scales


def levels(*downsamples):
    return tuple(Level(int(40_000 / d), int(30_000 / d), d) for d in downsamples)


def read(mpp, downsamples, scales=(0.5, 1.0, 2.0), tolerance=0.02):
    return resolve(mpp, levels(*downsamples), scales, 256, tolerance)


def test_nominal_20x_reads_native_pixels():
    for reading, level in zip(read(0.5, (1, 2, 4)), (0, 1, 2), strict=True):
        assert (reading.level, reading.factor) == (level, 1)
        assert reading.true_mpp == reading.mpp
        assert reading.extent == 256 * 2**level


def test_40x_with_levels_1_4_16_averages_boxes():
    fine, middle, coarse = read(0.25, (1, 4, 16))
    assert (fine.level, fine.factor) == (0, 2)
    assert (middle.level, middle.factor) == (1, 1)
    assert (coarse.level, coarse.factor) == (1, 2)


def test_within_tolerance_the_factor_is_exact_and_the_true_mpp_recorded():
    (reading, *_) = read(0.499, (1,))
    assert (reading.factor, reading.extent, reading.true_mpp) == (1, 256, 0.499)
    # 0.263 * 2 = 0.526, 5 % off 0.5: resampled to the exact scale.
    (reading, *_) = read(0.263, (1, 4))
    assert reading.factor is None
    assert reading.true_mpp == pytest.approx(0.5)
    assert reading.extent == pytest.approx(256 * 0.5 / 0.263)


@pytest.mark.parametrize("mpp", [0.2277, 0.25, 0.263018, 0.4643, 0.499, 0.526036])
@pytest.mark.parametrize("downsamples", [(1,), (1, 2, 4, 8), (1, 4, 16), (1, 3.7)])
def test_children_partition_parents_whatever_the_mpp(mpp, downsamples):
    fine, middle, coarse = read(mpp, downsamples)
    assert middle.extent == fine.extent * 2
    assert coarse.extent == fine.extent * 4
    for reading in (fine, middle, coarse):
        per_pixel = reading.extent / 256
        down = downsamples[reading.level]
        assert reading.true_mpp == pytest.approx(mpp * per_pixel)
        if reading.factor:
            assert down * reading.factor == pytest.approx(per_pixel, rel=1e-9)
        else:
            assert down <= per_pixel or reading.level == 0


def test_no_finer_level_is_upsampled_within_bounds():
    served, lacking = served_scales(0.526, (0.5, 1.0), 1.1)
    assert (served, lacking) == ([0.5, 1.0], [])
    assert served_scales(0.9714, (0.5, 1.0, 2.0), 1.1) == ([1.0, 2.0], [0.5])
    assert served_scales(28.97, (0.5, 1.0), 1.1) == ([], [0.5, 1.0])


def test_coarser_levels_are_not_upsampled_when_a_finer_one_is_there():
    # 1.052 could serve 1.0 by 1.05 times upsampling; 0.526 has more to give.
    middle = read(0.526, (1, 2, 4))[1]
    assert (middle.level, middle.factor) == (0, None)


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ((), "give at least one"),
        ((0.5, 0.75), "0.75 is not an integer multiple"),
        ((0.5, 1.0, 1.0), "1 is not an integer multiple"),
        ((0.0, 1.0), "not a resolution"),
    ],
)
def test_scales_that_are_no_chain(scales, said):
    with pytest.raises(InputError, match=said):
        check_chain(scales)


def test_chain_is_sorted_and_may_skip():
    assert check_chain((2.0, 0.5)) == (0.5, 2.0)
    assert check_chain((0.1, 0.3)) == (0.1, 0.3)


@pytest.mark.parametrize(
    ("mpp", "scales", "expected"),
    [
        (0.5, (0.5, 1.0, 2.0), [(0, 1), (0, 2), (0, 4)]),
        (0.25, (0.5, 1.0, 2.0), [(0, 2), (0, 4), (0, 8)]),
        (0.263, (0.5, 1.0), [(0, None), (0, None)]),
        (0.25, (1.0, 2.0), [(1, 1), (1, 2)]),  # level 0 is never touched
    ],
)
def test_from_finest_every_scale_shares_the_level_of_the_finest(mpp, scales, expected):
    native = resolve(mpp, levels(1, 4, 16), scales, 256, 0.02)
    shared = resolve(mpp, levels(1, 4, 16), scales, 256, 0.02, from_finest=True)
    assert [(r.level, r.factor) for r in shared] == expected
    assert [(r.extent, r.true_mpp) for r in shared] == [
        (r.extent, r.true_mpp) for r in native
    ]


def between(*downsamples):
    """Levels of a pyramid whose sizes were rounded: OpenSlide interpolates."""
    return [replace(v, is_between=v.downsample > 1) for v in levels(*downsamples)]


@pytest.mark.parametrize(
    ("mpp", "downsamples", "expected"),
    [
        (0.5, (1, 2, 4, 8), [(0, 1), (0, 2), (0, 4), (3, 1)]),  # 64 pixels for one
        (0.526, (1, 2, 4, 8), [(0, None)] * 4),
        (0.25, (1, 4, 16), [(0, 2), (0, 4), (0, 8), (2, 1)]),
        (0.5, (1, 3.7), [(0, 1), (0, 2), (0, 4), (0, 8)]),
    ],
)
def test_interpolated_levels_are_left_for_a_finer_one(mpp, downsamples, expected):
    scales = (0.5, 1.0, 2.0, 4.0)
    found = resolve(mpp, between(*downsamples), scales, 256, 0.02)
    assert [(r.level, r.factor) for r in found] == expected
    plain = resolve(mpp, levels(*downsamples), scales, 256, 0.02)
    assert [r.extent for r in found] == [r.extent for r in plain]


def test_of_interpolated_levels_the_nearest_whole_one_is_taken():
    pyramid = [replace(v, is_between=v.downsample > 2) for v in levels(1, 2, 4)]
    found = resolve(0.5, pyramid, (0.5, 1.0, 2.0), 256, 0.02)
    assert [(r.level, r.factor) for r in found] == [(0, 1), (1, 1), (1, 2)]


def test_a_reduced_level_is_upsampled_rather_than_decoding_all_of_a_finer_one():
    pyramid = [replace(v, is_reduced=v.downsample == 2) for v in levels(1, 2, 4)]

    def first(mpp, most):
        return resolve(mpp, pyramid, (0.5,), 256, 0.02, max_upsample=most)[0]

    near = first(0.263, 1.1)
    assert (near.level, near.factor) == (1, None)
    assert near.true_mpp == pytest.approx(0.5)
    assert first(0.263, 1.04).level == 0
    assert first(0.28, 1.1).level == 0  # 1.12 times
