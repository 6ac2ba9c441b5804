import numpy as np

from mshisto_ray.encoders import colour_stats


def test_colour_statistics_equal_numpys(tiles):
    quantiles = (0.0, 0.1, 0.5, 0.9, 1.0)
    out = colour_stats.build("cpu", "float32", quantiles=quantiles)(tiles)
    for i, tile in enumerate(tiles):
        flat = tile.reshape(-1, 3) / 255
        expected = [flat.mean(0), flat.std(0)]
        expected += [
            np.quantile(flat, q, axis=0, method="inverted_cdf") for q in quantiles
        ]
        np.testing.assert_allclose(out[i], np.concatenate(expected), atol=1e-6)


def test_colour_statistics_ignore_where_pixels_are(tiles):
    encode = colour_stats.build("cpu", "bfloat16")
    shuffled = np.random.default_rng(1).permuted(tiles.reshape(5, -1, 3), axis=1)
    for tile, mixed in zip(tiles, shuffled, strict=True):
        permutation = np.random.default_rng(2).permutation(64 * 64)
        mixed = tile.reshape(-1, 3)[permutation].reshape(tile.shape)
        np.testing.assert_array_equal(encode(tile[None]), encode(mixed[None]))
