import numpy as np
import pytest
import torch
from fixtures.spaces import rows
from sklearn.manifold import Isomap

from mshisto_ray.config import InputError
from mshisto_ray.representation.reductions import isomap

EXAMPLES = [{"dim": 4, "neighbours": 8}]


def test_unseen_rows_are_placed_as_by_scikit_learn():
    angle = torch.linspace(0, 9, 300)
    roll = torch.stack([angle * angle.cos(), angle * angle.sin(), angle % 1], 1)
    reduction = isomap.build(3, 2, dim=2, neighbours=10)
    found = reduction.apply(reduction.fit(roll[::2], None), roll[1::2]).numpy()
    model = Isomap(n_neighbors=10, n_components=2, eigen_solver="dense")
    train = model.fit_transform(roll[::2].double().numpy())
    wanted = model.transform(roll[1::2].double().numpy())
    wanted = (wanted - train.mean(0)) / np.sqrt(((train - train.mean(0)) ** 2).mean())
    sign = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found * sign, wanted, atol=5e-3)


def test_no_more_than_the_landmarks_are_kept():
    state = isomap.build(6, 2, dim=2, landmarks=50).fit(rows(200), None)
    assert state["distance"].shape == (50, 50)
    with pytest.raises(InputError, match=r"isomap to 32 .* training tiles, have 9"):
        isomap.build(6, 2).fit(rows(10), None)
