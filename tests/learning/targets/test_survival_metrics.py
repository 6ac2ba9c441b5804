"""Metrics of trained survival models: against scikit-survival, lifelines and loops."""

import numpy as np
import pytest
import torch
from fixtures.survival import draw_cohort
from sksurv.metrics import (
    concordance_index_censored,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
    integrated_brier_score,
)
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig

COX = {"kind": "survival", "time": "months", "event": "died"}
DISCRETE = COX | {"loss": "discrete", "intervals": 5}


def target(**keys):
    return TargetConfig(**(COX | keys)).build()


def cohorts(seed=0):
    """Training and test patients: times and events [N, 2], and a marker."""
    parts = []
    for num, own in ((150, seed), (60, seed + 100)):
        time, event, risk = draw_cohort(num, own)
        parts.append((np.stack([time, event], 1), risk))
    return parts


def encoded(kind, *truths):
    """Names of all patients together, as a cohort gives them."""
    every = np.concatenate(truths)
    cells = [(repr(float(t)), str(int(e))) for t, e in every]
    return kind.encode(cells, [f"r{i}" for i in range(len(cells))], "bags").names


@pytest.mark.parametrize("keys", [COX, DISCRETE])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_scikit_survival(keys, seed):
    (known, marker), (truth, risk) = cohorts(seed)
    kind = TargetConfig(**keys).build()
    names = encoded(kind, known, truth)
    fitted = kind.fit(known, names)
    wide = kind.num_outputs(names)

    def outputs(of):
        return torch.from_numpy(of[:, None] + np.linspace(-1, 0, wide))

    fitted = fitted.after(outputs(marker), known)
    values = fitted.link(outputs(risk))
    state = fitted.measured_with
    folds = np.zeros(len(truth), int)
    found = kind.knowing({0: state}).measure(values, truth, folds)
    assert set(found) == set(kind.shown)

    train, test = (Surv.from_arrays(t[:, 1] > 0, t[:, 0]) for t in (known, truth))
    times = np.array(state["horizons"])
    times = times[times < min(known[:, 0].max(), truth[:, 0].max())]
    assert len(times) >= 9
    survival = values[:, state["places"][: len(times)]]
    risks = values[:, 0]
    uno = concordance_index_ipcw(train, test, risks, tau=times[-1])[0]
    assert found["uno_c"][0] == pytest.approx(uno, abs=1e-10)
    plain = concordance_index_censored(truth[:, 1] > 0, truth[:, 0], risks)[0]
    assert found["c_index"][0] == pytest.approx(plain, abs=1e-12)
    area = cumulative_dynamic_auc(train, test, risks, times)[1]
    assert found["auc"][0] == pytest.approx(area, abs=1e-10)
    score = integrated_brier_score(train, test, survival, times)
    assert found["brier"][0] == pytest.approx(score, abs=1e-10)
    at, alive = kaplan_meier_estimator(known[:, 1] > 0, known[:, 0])
    steps = np.append(1.0, alive)[np.searchsorted(at, times, side="right")]
    whole = np.tile(steps, (len(truth), 1))
    level = integrated_brier_score(train, test, whole, times)
    assert found["brier_kaplan_meier"][0] == pytest.approx(level, abs=1e-10)


def test_a_baseline_is_that_of_lifelines():
    """CoxPHFitter of lifelines 0.30.3 on these 12 patients, with Breslow's baseline."""
    x = [0.0, 0.3, -0.27, -0.89, -0.45, -0.99, 0.06, 1.34, -0.49, -0.62, 0.49, 0.36]
    time = [2, 3, 3, 5, 7, 7, 8, 11, 12, 15, 16, 20.0]
    event = [1, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1]
    survival = {
        -1.0: (0.6839984243999466, 0.41155105413824317, 0.13567186587650534),
        0.5: (0.9310373195254988, 0.8461692989478721, 0.6867294912022924),
        2.0: (0.9866461711519117, 0.9690623745588393, 0.9317355923721224),
    }
    kind, truth = target(horizons=[12, 3, 7]), np.stack([time, event], 1)
    names = encoded(kind, truth)
    assert names == ("risk", "3", "7", "12")

    def outputs(values):
        beta = -1.1137088004307767
        return torch.tensor(values, dtype=torch.float64)[:, None] * beta + 40

    fitted = kind.fit(truth, names).after(outputs(x), truth)
    found = fitted.link(outputs(list(survival)))[:, 1:]
    np.testing.assert_allclose(found, list(survival.values()), rtol=1e-9)
    again = kind.restore(fitted.state, names)
    np.testing.assert_array_equal(again.link(outputs(x)), fitted.link(outputs(x)))


def test_hazards_are_constant_within_an_interval():
    kind = target(loss="discrete", intervals=2, horizons=[5, 10, 15])
    truth = np.array([[10, 1], [10, 1], [20, 1], [20, 1], [30, 0]], float)
    names = encoded(kind, truth)
    assert names == ("10", "30", "5", "15")  # an end is no second column
    logits = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    first, second = 0.5, 0.5 / (1 + np.e)
    fitted = kind.fit(truth, names)
    _, *survival = fitted.link(logits)[0]
    between = first**0.75 * second**0.25
    assert survival == pytest.approx([first, second, first**0.5, between])
    known = fitted.measured_with
    assert known["horizons"] == [5, 10, 15] and known["places"] == [3, 1, 4]
    table = kind.value_columns(fitted.link(logits), names)
    assert list(table) == ["risk", *(f"survival_{n}" for n in (10, 30, 5, 15))]


def test_horizons_end_where_a_tenth_is_left_and_given_ones_are_kept():
    rows = [(str(t), "1") for t in range(1, 101)]
    names = [f"r{i}" for i in range(100)]
    assert target().encode(rows, names, "bags").names[1::9] == ("9", "90")
    given = target(horizons=[24, 12, 12])
    assert given.encode(rows, names, "bags").names == ("risk", "12", "24")
    with pytest.raises(InputError, match="nobody is observed beyond 100, 120 in mont"):
        target(horizons=[12, 100, 120]).encode(rows, names, "bags")
    # A list of wrong values is not said to lack values.
    with pytest.raises(ValueError, match=r"survival\.horizons\.0: [^;]*$"):
        target(horizons=[0])
    with pytest.raises(ValueError, match=r"survival\.horizons: give at least 1"):
        target(horizons=[])
    assert "horizons" not in target().settings  # digests are those of before
    # Where nine of ten are observed for no time, there is nothing to predict.
    short = [("0", "1")] * 19 + [("3", "0")]
    assert target().encode(short, names[:20], "bags").names == ("risk",)


def test_horizons_that_nobody_outlives_do_not_count():
    """A fold is measured up to where training and test patients are observed."""
    (known, marker), (truth, risk) = cohorts()
    kind = target(horizons=[4, 8, 12, 16])
    names = ("risk", "4", "8", "12", "16")
    part = known[:, 0] < 11
    fitted = kind.fit(known[part], names)
    fitted = fitted.after(torch.from_numpy(marker[part, None]), known[part])
    values = fitted.link(torch.from_numpy(risk[:, None]))
    folds = np.zeros(len(truth), int)
    found = kind.knowing({0: fitted.measured_with}).measure(values, truth, folds)
    fewer = {**fitted.measured_with, "horizons": [4, 8], "places": [1, 2]}
    wanted = kind.knowing({0: fewer}).measure(values, truth, folds)
    for name in kind.shown:
        assert found[name][0] == pytest.approx(wanted[name][0]), name
    early = truth[:, 0] < 3
    none = kind.knowing({0: fewer}).measure(values[early], truth[early], folds[early])
    assert np.isfinite(none["c_index"][0])
    assert all(np.isnan(none[name][0]) for name in kind.shown[1:])


def test_another_cohort_has_a_censoring_of_its_own():
    (known, marker), (truth, risk) = cohorts()
    kind = target()
    names = encoded(kind, known, truth)
    models = [kind.fit(part, names) for part in (known[:70], known[70:])]
    models = [m.after(torch.from_numpy(marker[:70, None]), known[:70]) for m in models]
    values = models[0].link(torch.from_numpy(risk[:, None]))
    state = kind.of_another_cohort(models)
    assert state["observed"] is None and state["longest"] is None
    found = kind.knowing({0: state}).measure(values, truth, np.zeros(len(truth), int))
    test = Surv.from_arrays(truth[:, 1] > 0, truth[:, 0])
    times = np.array(state["horizons"])
    uno = concordance_index_ipcw(test, test, risk, tau=times[-1])[0]
    assert found["uno_c"][0] == pytest.approx(uno, abs=1e-10)
    score = integrated_brier_score(test, test, values[:, state["places"]], times)
    assert found["brier"][0] == pytest.approx(score, abs=1e-10)


def test_a_model_of_before_has_risks_alone():
    kind = target()
    old = kind.restore({}, ("risk",))
    values = old.link(torch.zeros(3, 1, dtype=torch.float64))
    assert values.shape == (3, 1) and old.measured_with == {}
    truth = np.array([[1, 1], [2, 1], [3, 0]], float)
    found = kind.knowing({0: {}}).measure(values, truth, np.zeros(3, int))
    assert list(found) == ["c_index"]
    assert kind.of_another_cohort([old]) == {}


def test_calibration_shows_what_quarters_come_to():
    from matplotlib.figure import Figure

    rng = np.random.default_rng(0)
    survival = np.repeat([0.2, 0.5, 0.7, 0.9], 50)
    dies = rng.exponential(-10 / np.log(survival))
    truth = np.stack([np.minimum(dies, 12), dies < 12], 1)
    values = np.stack([-survival, survival], 1)
    figure = Figure()
    kind = target()
    title = kind.draw(figure, values, truth, ("risk", "10"))
    assert "predicted survival at months 10" in title
    axes = figure.axes[2]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    seen = [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots]
    alive = [(truth[survival == s, 0] > 10).mean() for s in (0.9, 0.7, 0.5, 0.2)]
    assert [x for x, _ in seen] == pytest.approx([0.9, 0.7, 0.5, 0.2])
    assert [y for _, y in seen] == pytest.approx(alive)  # nobody left before 10
