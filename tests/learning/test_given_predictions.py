"""Tables of predictions in long and wide form, whole and damaged."""

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.given_predictions import read_models
from mshisto_ray.learning.model_rows import PredictionColumns

SURVIVAL = PredictionColumns(time="months", group="cancer")
LONG = (
    "cancer,model,fold,patient_id,risk,months,event\n"
    "x,one,0,p1,0.5,3,1\n"
    "x,one,1,p2,0.25,4.5,0\n"
    "x,two,0,p1,1,3,1\n"
    "x,two,1,p2,-2,4.5,0\n"
    "y,one,0,q1,7,1,1\n"
)
CLASSES = "patient_id,target,prob_no,prob_yes\na,yes,0.2,0.8\nb,no,0.75,0.25\n"


def write(folder, text, name="table.csv"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_long_form_has_groups_and_models(tmp_path):
    found = read_models([write(tmp_path, LONG)], SURVIVAL, {})
    assert {g: list(m) for g, m in found.items()} == {"x": ["one", "two"], "y": ["one"]}
    risks = found["x"]["two"].risks()
    assert risks.patient.tolist() == ["p1", "p2"]
    assert risks.fold.tolist() == ["0", "1"]
    assert risks.time.tolist() == [3, 4.5]
    assert risks.event.tolist() == [True, False]
    assert risks.risk.tolist() == [1, -2]


def test_wide_form_has_a_column_a_model(tmp_path):
    text = "patient_id,months,event,a,b\np1,3,1,.5,.1\np2,4,0,.2,.9\n"
    columns = PredictionColumns(time="months")
    found = read_models([write(tmp_path, text)], columns, {"ours": "b", "old": "a"})
    assert found["all"]["ours"].risks().risk.tolist() == [0.1, 0.9]
    assert found["all"]["old"].risks().risk.tolist() == [0.5, 0.2]
    assert found["all"]["old"].risks().fold.tolist() == ["", ""]


def test_a_file_without_models_is_named_after_itself_or_its_folder(tmp_path):
    paths = [
        write(tmp_path, CLASSES, "mine.csv"),
        write(tmp_path, CLASSES, "theirs/predictions.csv"),
    ]
    found = read_models(paths, PredictionColumns(), {})["all"]
    assert list(found) == ["mine", "theirs"]
    p = found["mine"].probabilities()
    assert p.classes == ("no", "yes")
    assert p.target.tolist() == [1, 0]
    assert np.array_equal(p.probabilities, [[0.2, 0.8], [0.75, 0.25]])
    assert p.bag.tolist() == p.patient_id.tolist() == ["a", "b"]


def test_two_classes_from_the_probability_of_one(tmp_path):
    text = "patient_id,target,m\na,yes,0.8\nb,no,0.25\n"
    rows = read_models([write(tmp_path, text)], PredictionColumns(), {"net": "m"})
    p = rows["all"]["net"].of_positive("yes")
    assert p.classes == ("no", "yes")
    assert p.probabilities == pytest.approx(np.array([[0.2, 0.8], [0.75, 0.25]]))
    with pytest.raises(InputError, match=r"positive: None.*'no', 'yes'"):
        rows["all"]["net"].of_positive(None)


def test_rows_of_a_patient_and_fold_are_averaged(tmp_path):
    text = LONG + "x,two,0,p1,3,3,1\n"
    found = read_models([write(tmp_path, text)], SURVIVAL, {})
    assert found["x"]["two"].risks().risk.tolist() == [2, -2]
    text = LONG + "x,two,0,p1,3,8,1\n"
    found = read_models([write(tmp_path, text)], SURVIVAL, {})
    with pytest.raises(InputError, match="'two': patient 'p1' has rows of different"):
        found["x"]["two"].risks()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("months,event", "time,event"), "columns.time: no column 'months'"),
        (("cancer,", "tumour,"), "columns.group: no column 'cancer'"),
        (("x,one,0,", "x,,0,"), "'model' is empty in 1 of 5 rows"),
        (("0.5,3,1", "high,3,1"), "'risk' has 'high', and needs a finite number"),
        (("0.5,3,1", "0.5,-3,1"), "'months' has '-3', and needs a number from 0 on"),
        (("0.5,3,1", ",3,1"), "'risk' is empty in 1 of 2 rows"),
        (("0.5,3,1", "0.5,3,dead"), "'event' has 'dead', and needs 1"),
    ],
)
def test_damaged_survival_tables_are_refused(tmp_path, change, match):
    with pytest.raises(InputError, match=match):
        found = read_models([write(tmp_path, LONG.replace(*change))], SURVIVAL, {})
        found["x"]["one"].risks()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("target", "truth"), "columns.target: no column 'target'"),
        (("a,yes", "a,maybe"), "has 'maybe', and every class needs a column prob_"),
        (("prob_", "p_"), "every class needs a column prob_<class>; have none"),
        (("0.8", "1.8"), "'prob_yes' has '1.8', and needs a number from 0 to 1"),
    ],
)
def test_damaged_tables_of_classes_are_refused(tmp_path, change, match):
    path = write(tmp_path, CLASSES.replace(*change))
    with pytest.raises(InputError, match=match):
        read_models([path], PredictionColumns(), {})["all"]["table"].probabilities()


def test_one_model_in_two_tables_and_empty_tables_are_refused(tmp_path):
    paths = [write(tmp_path, LONG), write(tmp_path, LONG, "again.csv")]
    with pytest.raises(InputError, match=r"model 'one' is in .*table.csv and in"):
        read_models(paths, SURVIVAL, {})
    with pytest.raises(InputError, match="predictions: no row in"):
        read_models([write(tmp_path, LONG.splitlines()[0] + "\n")], SURVIVAL, {})
    with pytest.raises(InputError, match=r"models\.a: no column 'z'"):
        read_models([paths[0]], SURVIVAL, {"a": "z"})
