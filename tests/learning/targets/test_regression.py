import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.statistics.agreement import regression_metrics

EXAMPLES = [{"column": "age"}, {"column": "age", "loss": "huber"}]


def cells(rng, num, keys):
    return [(f"{value:.1f}",) for value in 60 + 10 * rng.standard_t(3, num)]


def test_metrics_are_those_of_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    truth = rng.normal(60, 10, 50).round()
    found = (truth + rng.normal(0, 8, 50)).round()
    got = {name: value[0] for name, value in regression_metrics(found, truth).items()}
    assert got["r2"] == pytest.approx(metrics.r2_score(truth, found))
    assert got["mae"] == pytest.approx(metrics.mean_absolute_error(truth, found))
    assert got["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, found))
    assert got["pearson"] == pytest.approx(stats.pearsonr(truth, found)[0])
    assert got["spearman"] == pytest.approx(stats.spearmanr(truth, found)[0])


def test_what_does_not_vary_has_no_correlation():
    got = regression_metrics(np.ones(5), np.arange(5.0))
    assert np.isnan(got["pearson"][0]) and np.isnan(got["spearman"][0])
    assert np.isnan(regression_metrics(np.arange(5.0), np.ones(5))["r2"][0])


def test_the_link_gives_the_column_back():
    target = TargetConfig(kind="regression", column="age").build()
    truth = np.array([40.0, 60.0, 80.0])
    fitted = target.fit(truth, ("age",))
    again = fitted.link(fitted.encode(truth).double()[:, None])
    np.testing.assert_allclose(again[:, 0], truth, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["60", "old", "inf"], r"age: 2 of 3 values are not numbers: r1 \('old'\), r2"),
        (["60", "60", "60"], "age: all 3 values are 60, so there is nothing"),
    ],
)
def test_values_that_cannot_be_learned_are_refused(values, said):
    target = TargetConfig(kind="regression", column="age").build()
    with pytest.raises(InputError, match=said):
        target.encode([(v,) for v in values], ["r0", "r1", "r2"], "bags")
