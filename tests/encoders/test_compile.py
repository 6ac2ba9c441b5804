import shutil

import numpy as np
import pytest

from mshisto_ray import components
from mshisto_ray.components import Part


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_a_compiled_network_gives_the_same_up_to_rounding():
    """Also for a last batch that is smaller."""
    part = Part.model_validate(
        {"name": "timm", "model": "test_efficientnet", "weights": "random"}
    )
    plain, compiled = (
        components.build("mshisto_ray.encoders", part, "cpu", "float32")
        for _ in range(2)
    )
    compiled.compile()
    tiles = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    for batch in (tiles, tiles[:2]):
        np.testing.assert_allclose(compiled(batch), plain(batch), atol=1e-4, rtol=1e-3)
    assert compiled.digest == plain.digest
