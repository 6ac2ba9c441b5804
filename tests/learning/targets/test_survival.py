import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sksurv.metrics import concordance_index_censored

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.learning.targets.survival import FittedHazards
from mshisto_ray.statistics.survival.concordance import harrell

COLUMNS = {"time": "months", "event": "died"}
EXAMPLES = [
    COLUMNS,
    COLUMNS | {"loss": "discrete"},
    COLUMNS | {"loss": "discrete", "intervals": 2},
]


def cells(rng, num, keys):
    """Many equal times, of events and of censored rows."""
    times, events = rng.integers(0, 20, num), rng.random(num) < 0.5
    return [(str(t), str(int(e))) for t, e in zip(times, events, strict=True)]


def tied(num=30, seed=0):
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 8, num).astype(float)
    event = (rng.random(num) < 0.6).astype(float)
    return rng.normal(size=num), time, event


def test_cox_is_efrons_likelihood_in_plain_steps():
    risk, time, event = tied()
    total = 0.0
    for t in set(time[event > 0]):
        died = [math.exp(r) for r in risk[(time == t) & (event > 0)]]
        at_risk = sum(math.exp(r) for r in risk[time >= t])
        for number in range(len(died)):
            share = number / len(died)
            total += math.log(at_risk - share * sum(died)) - math.log(died[number])
    target = TargetConfig(kind="survival", **COLUMNS).build()
    encoded = torch.from_numpy(np.stack([time, event], 1))
    found = target.loss(torch.from_numpy(risk)[:, None], encoded)
    assert found.mean().item() == pytest.approx(total / event.sum())
    shuffled = np.random.default_rng(1).permutation(len(risk))
    again = target.loss(torch.from_numpy(risk[shuffled])[:, None], encoded[shuffled])
    assert again.mean().item() == pytest.approx(total / event.sum())
    # A constant, however large, changes nothing.
    far = target.loss(torch.from_numpy(risk + 500)[:, None], encoded)
    torch.testing.assert_close(far, found)


def test_hazards_are_the_likelihood_in_plain_steps():
    _, time, event = tied()
    target = TargetConfig(kind="survival", **COLUMNS, loss="discrete").build()
    fitted = FittedHazards((2.0, 4.0, 7.0))
    logits = torch.randn(30, 3, dtype=torch.float64)
    found = target.loss(logits, fitted.encode(np.stack([time, event], 1)))
    values = fitted.link(logits)
    for i, row in enumerate(torch.sigmoid(logits).tolist()):
        lived, wanted = 1.0, None
        for j, (start, end) in enumerate(itertools.pairwise((0.0, 2.0, 4.0, 7.0))):
            inside = start < time[i] <= end
            if inside and event[i]:
                wanted = lived * row[j]
            elif inside and time[i] < end:
                wanted = lived  # censored within: nothing is known of the interval
            lived *= 1 - row[j]
            if inside and wanted is None:
                wanted = lived
            assert values[i, 1 + j] == pytest.approx(lived)
        assert found[i].item() == pytest.approx(-math.log(wanted))
        assert values[i, 0] == pytest.approx(-values[i, 1:].mean())


def test_the_ends_of_intervals_hold_equally_many_events():
    target = TargetConfig(kind="survival", **COLUMNS, loss="discrete").build()
    rows = [(str(t), "1") for t in range(1, 41)] + [("50", "0")]
    found = target.encode(rows, [f"r{i}" for i in range(41)], "bags")
    assert found.names[:4] == ("10", "20", "30", "50")
    # The times that survival is predicted for, but those that are ends, follow.
    assert found.names[4:] == ("3.7", "7.4", "11.1", "14.8", "18.5", "22.2", "25.9",
                               "29.6", "33.3", "37")  # fmt: skip


def test_concordance_is_that_of_scikit_survival():
    for seed in range(5):
        risk, time, event = tied(60, seed)
        risk = risk.round(1)  # ties of risks too
        wanted = concordance_index_censored(event.astype(bool), time, risk)[0]
        assert harrell(time, event, risk, equal_times=True)[0] == pytest.approx(
            wanted, abs=1e-12
        )


def test_concordance_is_that_of_plain_steps():
    risk, time, event = tied(25)
    risk = risk.round(0)
    right = pairs = 0.0
    for i, j in itertools.permutations(range(25), 2):
        first = time[i] < time[j] or (time[i] == time[j] and not event[j])
        if event[i] and first:
            pairs += 1
            right += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    assert harrell(time, event, risk, equal_times=True)[0] == pytest.approx(
        right / pairs
    )
    assert np.isnan(harrell(time, np.zeros(25), risk, equal_times=True)[0])


def test_the_metric_is_the_mean_over_fold_models():
    """Risks of two models have no common scale."""
    target = TargetConfig(kind="survival", **COLUMNS).build()
    truth = np.array([[1, 1], [2, 1], [3, 0], [1, 1], [2, 1], [3, 0]], float)
    values = np.array([3, 2, 1, 103, 101, 102], float)[:, None]
    groups = np.array([0, 0, 0, 1, 1, 1])
    found = target.measure(values, truth, groups)["c_index"][0]
    assert found == pytest.approx((1 + 2 / 3) / 2)


def test_folds_have_their_share_of_events():
    target = TargetConfig(kind="survival", **COLUMNS).build()
    truth = np.stack([np.arange(40.0), np.arange(40) < 4], 1)
    assert target.strata(truth, ("risk",), 4).each_fold == ("with an event",)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("-1", "1"), r"months: 1 times are negative: r0 \(-1\); a time counts"),
        (("3", "2"), r"died: 1 of 6 values are neither 1 \(event\) nor 0 \(censored\)"),
        (("3", "yes"), r"died: 1 of 6 values are neither .*: r0 \('yes'\)"),
        (("soon", "1"), r"months: 1 of 6 values are not numbers: r0 \('soon'\)"),
        (("inf", "1"), r"months: 1 of 6 values are not numbers: r0 \('inf'\)"),
        (("4", "0"), "died: no event among 6 bags"),
    ],
)
def test_values_that_cannot_be_learned_are_refused(row, said):
    target = TargetConfig(kind="survival", **COLUMNS).build()
    rows = [row, *((str(i), "0") for i in range(5))]
    with pytest.raises(InputError, match=said) as error:
        target.encode(rows, [f"r{i}" for i in range(6)], "bags")
    assert "\n" not in str(error.value)


def test_too_few_times_for_the_intervals_are_refused():
    target = TargetConfig(
        kind="survival", **COLUMNS, loss="discrete", intervals=9
    ).build()
    rows = [(str(i % 3), "1") for i in range(9)]
    with pytest.raises(InputError, match=r"too few different times .*intervals=9"):
        target.encode(rows, [f"r{i}" for i in range(9)], "bags")


def test_the_picture_has_a_curve_of_each_quarter_and_the_test_of_their_difference():
    rng = np.random.default_rng(0)
    risk = rng.normal(size=80)
    time = rng.exponential(np.exp(-2 * risk))
    truth = np.stack([time, np.ones(80)], 1)
    figure = Figure()
    title = (
        TargetConfig(kind="survival", **COLUMNS)
        .build()
        .draw(figure, risk[:, None], truth, ("risk",))
    )
    assert "Kaplan-Meier" in title
    axes = figure.axes[1]
    assert axes.get_title() == "Kaplan-Meier, log-rank p < .001"
    last = np.argsort(risk)[-20:]
    x, y = axes.lines[-1].get_data()
    # Without censoring, the share of the highest quarter that is still without event.
    assert [y[(x <= t).sum() - 1] for t in (0.1, 0.3)] == pytest.approx(
        [(time[last] > t).mean() for t in (0.1, 0.3)]
    )
