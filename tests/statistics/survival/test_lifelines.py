"""C, Kaplan-Meier and log-rank against numbers of lifelines 0.30.3.

It needs an older pandas than the package takes, so that its results are held here:
`concordance_index`, `KaplanMeierFitter` and `logrank_test` on the same patients.
"""

import numpy as np
import pytest

from mshisto_ray.statistics.survival.concordance import harrell
from mshisto_ray.statistics.survival.kaplan_meier import kaplan_meier
from mshisto_ray.statistics.survival.log_rank import log_rank

# Share alive after each time.
ALIVE = {
    1.0: 0.9133333,
    2.0: 0.8566925,
    3.0: 0.7970965,
    4.0: 0.7434458,
    5.0: 0.7107668,
    6.0: 0.6777079,
    7.0: 0.5867959,
    8.0: 0.5782916,
    9.0: 0.560498,
    10.0: 0.560498,
    11.0: 0.5513095,
    12.0: 0.5329325,
    14.0: 0.5135532,
    15.0: 0.5135532,
}


def patients():
    """Time, event and a marker of 150 patients, with many equal times."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(150, 3))
    hazard = np.exp(values @ np.array([0.8, -0.5, 0.0]))
    time = np.ceil(10 * rng.exponential(1 / hazard)).clip(1, 15)
    event = (rng.random(150) < 0.7) & (time < 15)
    return time, event, values[:, 0]


def test_harrell():
    time, event, marker = patients()
    found = harrell(time, event, marker, equal_times=True)
    assert found == pytest.approx([0.70516326], abs=1e-8)


def test_kaplan_meier():
    time, event, _ = patients()
    curve = kaplan_meier(time, event)
    found = dict(zip(curve.times.tolist(), curve.values[0].tolist(), strict=True))
    assert found == pytest.approx(ALIVE, abs=1e-7)


def test_log_rank():
    time, event, marker = patients()
    found = log_rank(time, event, marker > 0)
    assert found.statistic == pytest.approx(15.222557666314355, rel=1e-9)
    assert found.p == pytest.approx(9.555516977920163e-05, rel=1e-9)
