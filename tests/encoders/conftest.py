import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiles():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
