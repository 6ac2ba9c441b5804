import numpy as np
import pytest
from fixtures.spaces import rows
from sklearn.decomposition import PCA

from mshisto_ray.config import InputError
from mshisto_ray.representation.reductions import pca

EXAMPLES = [{"dim": 4}, {"dim": 12}]


@pytest.mark.parametrize("num", [300, 8])  # more tiles than features, and fewer
def test_equals_scikit_learn_up_to_scale(num):
    values = rows(num, 12)
    reduction = pca.build(12, 2, dim=4)
    found = reduction.apply(reduction.fit(values, None), values).numpy()
    wanted = PCA(4, svd_solver="full").fit_transform(values.double().numpy())
    wanted /= np.sqrt((wanted**2).mean())
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=2e-4)


def test_too_many_directions_are_refused():
    with pytest.raises(InputError, match=r"reduction\.dim: pca to 13 .* features"):
        pca.build(12, 2, dim=13)
    with pytest.raises(InputError, match="training tiles, have 3"):
        pca.build(12, 2, dim=4).fit(rows(3, 12), None)
