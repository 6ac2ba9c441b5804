import numpy as np

from mshisto_ray.contrastive.verification import (
    Verification,
    best_thresholds,
    describe,
    drop_contradictions,
    fit_verification,
    search_thresholds,
)


def test_descriptor_is_mean_and_deviation_per_channel():
    tiles = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    wanted = [
        [*(t.reshape(-1, 3) / 255).mean(0), *(t.reshape(-1, 3) / 255).std(0)]
        for t in tiles
    ]
    np.testing.assert_allclose(describe(tiles), wanted, atol=1e-6)


def test_limits_are_quantiles_of_the_other_kind():
    near, far = np.arange(0, 100), np.arange(50, 150)
    limits = fit_verification(near, far, 0.5)
    assert limits.most_alike == np.median(far) and limits.least_apart == np.median(near)


def test_contradicted_pairs_are_dropped_and_no_others():
    gray = np.array([10, 12, 200, 90], np.uint8)
    tiles = np.broadcast_to(gray[:, None, None, None], (4, 3, 3, 3))
    every = ~np.eye(4, dtype=bool)
    positive, negative = drop_contradictions(
        tiles, every, every, Verification(0.3, 0.5)
    )
    values = gray / 255 * np.sqrt(3)
    for i in range(4):
        for j in range(4):
            d = abs(values[i] - values[j])
            assert positive[i, j] == (i != j and d <= 0.3)
            assert negative[i, j] == (i != j and d >= 0.5)


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
