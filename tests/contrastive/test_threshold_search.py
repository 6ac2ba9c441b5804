import dataclasses

import numpy as np

from mshisto_ray.contrastive.monitor import near_far_auc
from mshisto_ray.contrastive.threshold_search import (
    best_thresholds,
    search_thresholds,
)


def test_the_search_finds_the_size_of_regions(make_index):
    """Appearance comes in squares of 4 tiles: near within, far beyond, separates."""
    index = make_index(side=24, scales=(0.5,), holes=0.1, mpp=(0.5,))
    tiles = np.arange(len(index))
    generator = np.random.default_rng(0)
    shade = generator.random((6, 6, 6))
    values = shade[index.slide(tiles), index.row(tiles) // 4, index.col(tiles) // 4]
    values = values[:, None] + generator.normal(0, 0.02, (len(tiles), 1))
    results = search_thresholds(
        index, lambda t: values[t], near_um=[40, 300], far_um=[200, 400, 5000]
    )
    assert [(r.near_um, r.far_um) for r in results] == [
        (40, 200),
        (40, 400),
        (40, 5000),
        (300, 400),
        (300, 5000),
    ]
    found = {(r.near_um, r.far_um): r for r in results}
    assert found[40, 400].auc > found[300, 400].auc + 0.1
    assert found[40, 5000].covered == 0 and found[40, 200].covered > 0.95
    best = best_thresholds(results)
    assert best is not None and best.near_um == 40 and best.far_um in (200, 400)
    assert best_thresholds(results, least_covered=1.1) is None


def test_the_widest_thresholds_as_good_as_the_best_are_taken(make_index):
    """Near or far makes no difference: nothing speaks for the ends."""
    index = make_index(side=24, scales=(0.5,), holes=0.1, mpp=(0.5,))
    noise = np.random.default_rng(1).normal(size=(len(index), 1))
    results = search_thresholds(
        index, lambda t: noise[t], near_um=[40, 100, 200], far_um=[250, 400]
    )
    assert all(0.4 < r.auc < 0.6 for r in results)
    best = best_thresholds(results)
    assert best is not None and (best.near_um, best.far_um) == (200, 250)
    # Without intervals the highest counts.
    blind = [dataclasses.replace(r, replicates=np.zeros(0)) for r in results]
    best = best_thresholds(blind)
    assert best is not None and best.auc == max(r.auc for r in results)


def test_intervals_are_those_of_samples_of_patients(make_index):
    index = make_index(side=12, scales=(0.5,), holes=0.0, mpp=(0.5,))
    tiles = np.arange(len(index))
    rng = np.random.default_rng(0)
    values = index.row(tiles)[:, None] + rng.normal(0, 3, (len(index), 1))
    (result,) = search_thresholds(index, lambda t: values[t], [60], [150], 600)
    assert 0.5 < result.interval.low < result.auc < result.interval.high < 1
    assert abs(result.replicates.mean() - result.auc) < 0.02
    gap = result.behind(result)
    assert gap.value == gap.low == gap.high == 0
    assert near_far_auc(np.zeros(2), np.ones(2)) == 1
