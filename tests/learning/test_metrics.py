import numpy as np
import pytest
from sklearn import metrics as sk

from mshisto_ray.learning.metrics import classification_metrics


def rows(num, classes, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, num)
    logits = rng.normal(size=(num, classes)) + 1.5 * np.eye(classes)[targets]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if ties:
        first = probabilities[:, :-1].round(1 if classes == 2 else 2)
        probabilities = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)
    return probabilities, targets


def reference(p, y, weight):
    """The same by scikit-learn, one weighting at a time."""
    classes = p.shape[1]
    keys = {"sample_weight": weight}
    call = p.argmax(1)
    average = "binary" if classes == 2 else "macro"
    keep = {"average": average, "zero_division": 0.0, **keys}
    each = [1] if classes == 2 else range(classes)
    return {
        "accuracy": sk.accuracy_score(y, call, **keys),
        "precision": sk.precision_score(y, call, **keep),
        "recall": sk.recall_score(y, call, **keep),
        "f1": sk.f1_score(y, call, **keep),
        "auroc": np.mean([sk.roc_auc_score(y == c, p[:, c], **keys) for c in each]),
        "pr_auc": np.mean(
            [sk.average_precision_score(y == c, p[:, c], **keys) for c in each]
        ),
    }


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_learn_for_every_weighting(classes, ties):
    p, y = rows(80, classes, ties=ties)
    weights = np.random.default_rng(1).integers(0, 4, (6, 80)).astype(float)
    weights[0] = 1
    found = classification_metrics(p, y, weights)
    for r, weight in enumerate(weights):
        for name, value in reference(p, y, weight).items():
            assert found[name][r] == pytest.approx(value, abs=1e-12), name


def test_a_repeated_row_equals_its_weight():
    p, y = rows(30, 3)
    counts = np.random.default_rng(2).integers(0, 3, 30)
    weighted = classification_metrics(p, y, counts[None].astype(float))
    repeated = classification_metrics(p.repeat(counts, 0), y.repeat(counts))
    for name, value in repeated.items():
        assert weighted[name][0] == pytest.approx(value[0], abs=1e-12)


def test_auroc_of_perfect_reversed_and_equal_scores():
    y = np.array([0, 0, 1, 1])
    for score, value in (([0.1, 0.2, 0.8, 0.9], 1), ([0.9, 0.8, 0.2, 0.1], 0)):
        p = np.stack([1 - np.array(score), score], 1)
        assert classification_metrics(p, y)["auroc"][0] == value
    assert classification_metrics(np.full((4, 2), 0.5), y)["auroc"][0] == 0.5


def test_without_a_class_its_metrics_are_nan_and_accuracy_is_not():
    p, _ = rows(10, 2)
    found = classification_metrics(p, np.zeros(10, int))
    assert np.isnan([found[n][0] for n in ("recall", "f1", "auroc", "pr_auc")]).all()
    assert found["accuracy"][0] == (p[:, 0] >= p[:, 1]).mean()


def test_precision_is_zero_where_nothing_is_called_positive():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    found = classification_metrics(p, np.array([0, 1, 1]))
    assert found["precision"][0] == found["recall"][0] == found["f1"][0] == 0
