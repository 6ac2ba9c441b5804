"""DeLong's covariance against loops over pairs and against published numbers."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mshisto_ray.statistics.delong import auroc_parts, join


def cases(num_patients=25, columns=3, seed=0, mixed=True):
    """Patients with one to four rows, of both classes if ``mixed``; tied scores."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), rng.integers(1, 5, num_patients))
    truth = rng.random(len(patients)) < 0.4
    if not mixed:
        truth = (rng.random(num_patients) < 0.4)[patients]
    shared = rng.normal(size=(num_patients, 1))[patients]
    noise = rng.normal(size=(len(patients), columns))
    scores = np.round(truth[:, None] + shared + noise, 1)
    return scores, truth, patients, num_patients


def beats(x, y):
    return 1.0 if x > y else 0.5 if x == y else 0.0


def obuchowski(scores, truth, patients, num_patients):
    """Equations of Obuchowski (1997), pair by pair and patient by patient."""
    ups, downs = np.flatnonzero(truth), np.flatnonzero(~truth)
    num, (M, N) = scores.shape[1], (len(ups), len(downs))
    area, v10, v01 = np.zeros(num), [{} for _ in range(num)], [{} for _ in range(num)]
    for k in range(num):
        for i in ups:
            v10[k][i] = sum(beats(scores[i, k], scores[j, k]) for j in downs) / N
        for j in downs:
            v01[k][j] = sum(beats(scores[i, k], scores[j, k]) for i in ups) / M
        area[k] = sum(v10[k].values()) / M

    def total(v, k, patient):
        return sum(v[k][r] - area[k] for r in v[k] if patients[r] == patient)

    i10, i01 = len(set(patients[truth])), len(set(patients[~truth]))
    covariance = np.zeros((num, num))
    for a in range(num):
        for b in range(num):
            s10 = s01 = s11 = s11_swapped = 0.0
            for p in range(num_patients):
                s10 += total(v10, a, p) * total(v10, b, p)
                s01 += total(v01, a, p) * total(v01, b, p)
                s11 += total(v10, a, p) * total(v01, b, p)
                s11_swapped += total(v01, a, p) * total(v10, b, p)
            both = num_patients / (num_patients - 1)
            covariance[a, b] = (
                s10 * i10 / ((i10 - 1) * M) / M
                + s01 * i01 / ((i01 - 1) * N) / N
                + (s11 + s11_swapped) * both / (M * N)
            )
    return area, covariance


@pytest.mark.parametrize("mixed", [True, False])
def test_patients_with_several_rows_equal_a_loop_over_pairs(mixed):
    given = cases(mixed=mixed)
    area, covariance = obuchowski(*given)
    parts = auroc_parts(*given)
    assert parts.auroc[0] == pytest.approx(area, abs=1e-12)
    assert parts.covariance() == pytest.approx(covariance, abs=1e-12)
    weights = np.array([[1, 0.5], [0, -1], [0, 0.5]])
    wanted = np.einsum("km,kl,lm->m", weights, covariance, weights)
    assert parts.variance(weights)[0] == pytest.approx(wanted, abs=1e-12)


def test_areas_are_those_of_scikit_learn():
    scores, truth, *rest = cases(seed=3)
    found = auroc_parts(scores, truth, *rest).auroc[0]
    assert found == pytest.approx([roc_auc_score(truth, s) for s in scores.T])


def test_one_row_a_patient_is_the_covariance_of_delong():
    """The sample covariances of placements, each over its number of rows."""
    rng = np.random.default_rng(1)
    truth = np.arange(40) < 15
    scores = rng.normal(size=(40, 2)) + truth[:, None]
    up, down = scores[truth], scores[~truth]
    placed = (up[:, None] > down[None]).mean(1), (up[:, None] > down[None]).mean(0)
    wanted = np.cov(placed[0].T) / 15 + np.cov(placed[1].T) / 25
    found = auroc_parts(scores, truth, np.arange(40), 40)
    assert found.covariance() == pytest.approx(wanted, abs=1e-14)


def test_equal_rows_of_a_patient_count_once():
    scores, truth, _, _ = cases()
    num = len(truth)
    once = auroc_parts(scores, truth, np.arange(num), num).covariance()
    patients = np.repeat(np.arange(num), 3)
    thrice = auroc_parts(scores[patients], truth[patients], patients, num)
    assert thrice.covariance() == pytest.approx(once, abs=1e-14)


def test_ratings_of_hanley_and_mcneil():
    """Table 1 of Hanley and McNeil (1982): 109 CT images read on a scale of five.

    They give the area .893 and the standard error .032 of their own formula, which
    uses the same pairs but other denominators.
    """
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    scores = np.concatenate([np.repeat(np.arange(5), n) for n in (normal, abnormal)])
    truth = np.arange(109) >= 58
    parts = auroc_parts(scores[:, None].astype(float), truth, np.arange(109), 109)
    assert parts.auroc[0, 0] == pytest.approx(0.893, abs=5e-4)
    assert parts.covariance()[0, 0] ** 0.5 == pytest.approx(0.032, abs=2e-3)


def test_degrees_of_freedom_are_those_of_welch():
    rng = np.random.default_rng(2)
    truth = np.arange(30) < 6
    scores = rng.normal(size=(30, 1)) + truth[:, None]
    up, down = scores[truth, 0], scores[~truth, 0]
    one = (up[:, None] > down).mean(1).var(ddof=1) / 6
    two = (up[:, None] > down).mean(0).var(ddof=1) / 24
    wanted = (one + two) ** 2 / (one**2 / 5 + two**2 / 23)
    _, found = auroc_parts(scores, truth, np.arange(30), 30).variance(np.ones((1, 1)))
    assert found == pytest.approx(wanted)


def test_one_patient_of_a_class_has_no_known_variance():
    scores = np.array([[0.9], [0.8], [0.2], [0.1]])
    truth = np.array([True, True, False, False])
    parts = auroc_parts(scores, truth, np.array([0, 0, 1, 2]), 3)
    assert np.isnan(parts.covariance()).all()
    assert np.isnan(parts.variance(np.ones((1, 1)))[0]).all()


def test_joined_columns_are_those_computed_together():
    scores, *rest = cases()
    together = auroc_parts(scores, *rest)
    apart = join([auroc_parts(scores[:, :1], *rest), auroc_parts(scores[:, 1:], *rest)])
    assert apart.covariance() == pytest.approx(together.covariance(), abs=1e-15)
