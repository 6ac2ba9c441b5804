"""What every encoder owes, whoever adds it."""

import numpy as np
import pytest
from fixtures.parts import checked, examples

from mshisto_ray import components

FAMILY = "mshisto_ray.encoders"


@pytest.mark.parametrize("part", examples(FAMILY))
def test_every_encoder_keeps_the_familys_contract(part, tiles, tmp_path):
    encoder = components.build(
        FAMILY, checked(FAMILY, part, tmp_path), "cpu", "float32"
    )
    out = encoder(tiles)
    assert out.shape == (5, encoder.dim) and out.dtype == np.float32
    assert np.isfinite(out).all()
    # A tile's embedding is its own: neighbours in the batch change nothing.
    single = np.concatenate([encoder(tiles[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(out, single, rtol=1e-3, atol=1e-5)
    assert np.abs(out[0] - out[1]).max() > 0
    assert len(encoder.digest) == 32
