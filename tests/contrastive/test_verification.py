import numpy as np

from mshisto_ray.contrastive.verification import (
    Verification,
    describe,
    drop_contradictions,
    fit_verification,
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
