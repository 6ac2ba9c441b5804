"""Predictions of a head whose target is not classes: their table and metrics."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.table import read_predicted
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.prediction.values import write_values
from mshisto_ray.store.cohort import read_cohort

AGE = TargetConfig(kind="regression", column="age").build()
TIMES = TargetConfig(kind="survival", time="months", event="died").build()


def head_of(target, names):
    return Head(names, (4,), 1.0, None, {}, None, {}, (), {}, target)


def cohort_of(folder, text):
    path = folder / "cohort.csv"
    path.write_text(text)
    return read_cohort(path, check_files=False)


def bags_of(*names):
    return [Bag(name, f"p-{name}", [name]) for name in names]


@pytest.mark.parametrize(
    ("target", "names", "text", "truth"),
    [
        (AGE, ("age",), "path,age\na.svs,60\nb.svs,\nc.svs,70\n", [60, 70]),
        (
            TIMES,
            ("risk",),
            "path,months,died\na.svs,5,1\nb.svs,3,\nc.svs,9,0\n",
            [[5, 1], [9, 0]],
        ),
    ],
)
def test_the_table_has_nothing_where_the_cohort_has_no_target(
    tmp_path, target, names, text, truth
):
    values = np.array([[2.0], [0.5], [1.0]])
    path, cohort = tmp_path / "predictions.parquet", cohort_of(tmp_path, text)
    given = head_of(target, names), cohort, bags_of("a", "b", "c"), values, None
    metrics = write_values(path, *given)
    assert set(metrics) == set(target.metric_names(names))
    table = pq.read_table(path)
    first = next(iter(target.truth_columns(np.array(truth, float), names)))
    assert [v is None for v in table[first].to_pylist()] == [False, True, False]
    found = read_predicted(path)
    assert list(found.names) == ["a", "b", "c"]
    known = found.labelled()
    assert known.bag.tolist() == ["a", "c"] and known.kind == target
    np.testing.assert_array_equal(known.target, truth)
    np.testing.assert_array_equal(known.probabilities, values[[0, 2]])


def test_a_cohort_without_the_columns_gives_predictions_alone(tmp_path):
    path, cohort = tmp_path / "p.parquet", cohort_of(tmp_path, "path\na.svs\nb.svs\n")
    given = head_of(AGE, ("age",)), cohort, bags_of("a", "b"), np.ones((2, 1)), None
    assert write_values(path, *given) == {}
    assert pq.read_table(path)["target"].null_count == 2
    assert read_predicted(path).labelled() is None


def test_slides_of_a_patient_have_one_target(tmp_path):
    cohort = cohort_of(tmp_path, "path,patient_id,age\na.svs,p,60\nb.svs,p,61\n")
    bag = Bag("p", "p", ["a", "b"])
    given = head_of(AGE, ("age",)), cohort, [bag], np.ones((1, 1)), None
    with pytest.raises(InputError, match="patient 'p' has slides with different age"):
        write_values(tmp_path / "p.parquet", *given)
