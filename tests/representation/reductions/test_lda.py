import numpy as np
import pytest
import torch
from fixtures.spaces import rows
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mshisto_ray.config import InputError
from mshisto_ray.representation.reductions import lda

EXAMPLES = [{}, {"dim": 1}]


def test_equals_scikit_learn_up_to_scale():
    values, codes = rows(300, 12), torch.arange(300) % 3
    values[codes == 1, 0] += 3
    reduction = lda.build(12, 3, shrinkage=0.2)
    found = reduction.apply(reduction.fit(values, codes), values).numpy()
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.2)
    wanted = model.fit(values.double().numpy(), codes).transform(values.double())
    wanted = wanted - wanted.mean(0)
    wanted /= np.sqrt((wanted**2).mean())
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-3)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="classes less one, have 2"):
        lda.build(12, 3, dim=3)
    with pytest.raises(InputError, match="lda needs a class"):
        lda.build(12, 3).fit(rows(9, 12), None)
