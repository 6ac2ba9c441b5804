import dataclasses

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning import intervals as bootstrap
from mshisto_ray.learning.metrics import METRICS, classification_metrics
from mshisto_ray.learning.predictions import (
    Predictions,
    concatenate,
    read_predictions,
    write_predictions,
)
from mshisto_ray.statistics.bootstrap import Interval


def predictions(
    num=60, per_patient=1, repeats=1, skill=1.0, seed=0, classes=("no", "yes")
):
    """Bags of patients; models whose logit for the truth is ``skill`` higher."""
    rng = np.random.default_rng(7)
    target = rng.integers(0, len(classes), num).repeat(per_patient)
    size = len(target)
    bag = np.array([f"b{i}" for i in range(size)], dtype=object)
    patient = np.array([f"p{i // per_patient}" for i in range(size)], dtype=object)
    parts = []
    for repeat in range(repeats):
        noise = np.random.default_rng([seed, repeat]).normal(
            size=(num, len(classes))
        ).repeat(per_patient, 0)  # fmt: skip
        logits = np.exp(noise + skill * np.eye(len(classes))[target])
        probabilities = logits / logits.sum(1, keepdims=True)
        slide = np.full(size, None, dtype=object)
        fold, number = np.arange(size) % 5, np.full(size, repeat)
        parts.append(
            Predictions(
                classes, bag, slide, patient, target, fold, number, probabilities
            )
        )
    return concatenate(parts)


def naive_interval(p, metric):
    """Row by row: draw patients, gather their rows, score each repeat, average."""
    names = sorted(set(p.patient_id))
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(names), (bootstrap.REPLICATES, len(names)))
    values = []
    for draw in drawn[:200]:
        per_repeat = []
        for repeat in sorted(set(p.repeat)):
            rows = [
                i
                for j in draw
                for i in np.flatnonzero(
                    (p.patient_id == names[j]) & (p.repeat == repeat)
                )
            ]
            found = classification_metrics(p.probabilities[rows], p.target[rows])
            per_repeat.append(found[metric][0])
        values.append(np.mean(per_repeat))
    return np.percentile(values, (2.5, 97.5))


@pytest.mark.parametrize("metric", ["auroc", "f1"])
def test_intervals_equal_a_naive_loop(monkeypatch, metric):
    p = predictions(num=25, per_patient=2, repeats=2)
    low, high = naive_interval(p, metric)
    monkeypatch.setattr(bootstrap, "REPLICATES", 200)
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 8 * 50 * 7)
    found = bootstrap.intervals(p)[metric]
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    per_repeat = [
        classification_metrics(
            p.probabilities[p.repeat == r], p.target[p.repeat == r]
        )[metric][0]
        for r in (0, 1)
    ]  # fmt: skip
    assert found.value == pytest.approx(np.mean(per_repeat), abs=1e-12)


def test_patients_not_rows_are_resampled():
    """Ten equal rows a patient carry no more evidence than one."""
    one, ten = predictions(per_patient=1), predictions(per_patient=10)
    for name in METRICS:
        single, many = bootstrap.intervals(one)[name], bootstrap.intervals(ten)[name]
        assert dataclasses.astuple(many) == pytest.approx(dataclasses.astuple(single))


def test_interval_width_falls_with_the_root_of_patients_and_covers_the_value():
    small = bootstrap.intervals(predictions(num=100))["auroc"]
    large = bootstrap.intervals(predictions(num=1600))["auroc"]
    ratio = (small.high - small.low) / (large.high - large.low)
    assert 3 < ratio < 5.3
    assert large.low < large.value < large.high


def test_intervals_are_the_same_every_time():
    p = predictions(classes=("a", "b", "c"))
    assert bootstrap.intervals(p) == bootstrap.intervals(p)


def test_a_metric_without_a_value_has_no_interval():
    p = predictions()
    alone = dataclasses.replace(p, target=np.zeros(len(p), int))
    found = bootstrap.intervals(alone)
    assert np.isnan(dataclasses.astuple(found["auroc"])).all()
    assert found["accuracy"].low <= found["accuracy"].value


def test_comparison_of_a_model_with_itself_is_exactly_zero():
    p = predictions(repeats=2)
    assert bootstrap.compare(p, p).difference == Interval(0, 0, 0)


def test_comparison_is_paired_and_narrower_than_the_difference_of_intervals():
    base = predictions(num=200)
    close = dataclasses.replace(base, probabilities=base.probabilities.copy())
    # Worse on ten bags only: unpaired intervals of both overlap widely.
    wrong = np.flatnonzero(base.target == 1)[:10]
    close.probabilities[wrong] = [0.99, 0.01]
    found = bootstrap.compare(base, close)
    assert found.difference.low > 0
    assert found.first - found.second == pytest.approx(found.difference.value)
    one, two = bootstrap.intervals(base)["auroc"], bootstrap.intervals(close)["auroc"]
    assert two.high > one.low
    swapped = bootstrap.compare(close, base).difference
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx(
        (-found.difference.value, -found.difference.high, -found.difference.low)
    )


def test_rows_in_another_order_compare_the_same():
    one, two = predictions(seed=0), predictions(seed=1)
    order = np.random.default_rng(0).permutation(len(two))
    names = [n for n in Predictions.__dataclass_fields__ if n != "classes"]
    shuffled = dataclasses.replace(two, **{n: getattr(two, n)[order] for n in names})
    first = bootstrap.compare(one, two)
    second = bootstrap.compare(one, shuffled)
    assert dataclasses.astuple(first.difference) == pytest.approx(
        dataclasses.astuple(second.difference)
    )


def test_other_bags_or_classes_are_refused():
    p = predictions()
    other = dataclasses.replace(p, bag=np.where(p.bag == "b3", "x", p.bag))
    with pytest.raises(InputError, match=r"different bags .*2 differ.*b3, x"):
        bootstrap.compare(p, other)
    with pytest.raises(InputError, match="different classes"):
        bootstrap.compare(p, predictions(classes=("no", "maybe")))
    with pytest.raises(InputError, match="no metric 'auc'"):
        bootstrap.compare(p, p, "auc")


def test_predictions_table_keeps_everything(tmp_path):
    p = predictions(repeats=2, classes=("b", "a", "c"))
    p.slide_id[0] = "s0"
    write_predictions(tmp_path / "predictions.parquet", p)
    back = read_predictions(tmp_path / "predictions.parquet")
    assert back.classes == ("b", "a", "c")
    for name in ("bag", "slide_id", "patient_id", "target", "fold", "repeat"):
        assert getattr(back, name).tolist() == getattr(p, name).tolist(), name
    np.testing.assert_array_equal(back.probabilities, p.probabilities)


def test_another_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such"):
        read_predictions(tmp_path / "none.parquet")
    import pandas as pd

    pd.DataFrame({"bag": ["a"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="lacks fold, patient_id"):
        read_predictions(tmp_path / "x.parquet")
