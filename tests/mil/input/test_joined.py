"""Labels of a table of bags that come from a cohort."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig

NUM = 40
SURVIVAL = {"kind": "survival", "time": "months", "event": "died"}


@pytest.fixture
def files(tmp_path):
    """A bag of one row a patient, and a cohort of one or two slides a patient."""
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(NUM)]
    table = {"bag": names, "features": rng.normal(size=(NUM, 4)).tolist()}

    def write(change=None, drop=(), bags=None):
        rows = []
        for i, name in enumerate(names):
            cells = {"slide_id": f"{name}-s", "patient_id": name, "site": f"h{i % 8}"}
            cells |= {"months": f"{1 + i % 13}.0", "died": str(i % 2), "age": 50 + i}
            cells |= (change or {}).get(name, {})
            rows += [cells | {"slide_id": f"{name}-{k}"} for k in range(1 + i % 2)]
        with (tmp_path / "cohort.csv").open("w", newline="") as file:
            writer = csv.DictWriter(
                file, [n for n in rows[0] if n not in drop], extrasaction="ignore"
            )
            writer.writeheader()
            writer.writerows(rows)
        pq.write_table(pa.table(table | (bags or {})), tmp_path / "rna.parquet")
        return {
            "bags": str(tmp_path / "rna.parquet"),
            "cohort": str(tmp_path / "cohort.csv"),
            "split": {"folds": 3},
        }

    return write


def read(raw, **keys):
    config = configs.validate(ExperimentConfig, raw | keys)
    bags, splits = experiment.load(config)
    return bags, splits, experiment.notes(config, bags)


def test_labels_sites_and_patients_are_those_of_the_rows_of_the_bag(files):
    raw = files({"p3": {"months": "NA"}})
    split = {"folds": 3, "group": "site"}
    bags, splits, notes = read(raw, target=SURVIVAL, split=split)
    assert bags.names == tuple(f"p{i}" for i in range(NUM) if i != 3)
    assert bags.patient_ids == bags.names
    assert bags.targets[4].tolist() == [6.0, 1.0]
    for part in splits:
        sites = [
            {int(bags.names[i][1:]) % 8 for i in p} for p in (part.train, part.test)
        ]
        assert not sites[0] & sites[1]
    assert any("1 of 40 bags left out, no 'months' or 'died': p3" in n for n in notes)
    assert not any("no patient_id" in note for note in notes)


def test_bags_may_be_slides_and_columns_of_the_table_stay(files):
    bags = {"bag": [f"p{i}-0" for i in range(NUM)], "grade": ["a", "b"] * (NUM // 2)}
    found, _, _ = read(files(bags=bags), target={"column": "grade"})
    assert found.names[:2] == ("p0-0", "p1-0") and found.patient_ids[:2] == ("p0", "p1")
    assert found.classes == ("a", "b")


def test_who_is_in_one_of_both_tables_is_said(files):
    bags = {"bag": [f"p{i}" if i else "q0" for i in range(NUM)]}
    _, _, notes = read(files(bags=bags), target={"kind": "regression", "column": "age"})
    assert "1 of 40 bags have no row in cohort.csv (q0)" in notes
    assert "1 of 40 patient_ids of cohort.csv have no bag (p0)" in notes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bags": {"bag": [f"x{i}" for i in range(NUM)]}}, r"none of the 40 bags \(x0"),
        ({"drop": ("slide_id", "patient_id")}, r"has no bag, slide_id or patient_id"),
        ({"drop": ("months",)}, r"cohort.csv: no column 'months'; have slide_id, pat"),
        (
            {"change": {"p3": {"died": "yes"}}},
            r"died: 1 of .* \('yes'\); write 1 or",
        ),
    ],
)
def test_a_cohort_that_cannot_be_joined_is_one_line(files, given, said):
    with pytest.raises(InputError, match=said) as error:
        read(files(**given), target=SURVIVAL)
    assert "\n" not in str(error.value)


def test_two_values_of_a_patient_are_refused(files, tmp_path):
    raw = files()
    with (tmp_path / "cohort.csv").open("a") as file:
        file.write("p1-9,p1,h1,99.0,1,51\n")
    with pytest.raises(InputError, match=r"'p1' has two values in column 'months'"):
        read(raw, target=SURVIVAL)


def test_few_events_or_labels_are_warned_of_and_true_is_one(files):
    died = {f"p{i}": {"died": str(i % 5 == 0)} for i in range(NUM)}
    bags, _, notes = read(files(died), target=SURVIVAL)
    assert bags.targets[:, 1].sum() == 8
    assert any(n.startswith("warning: died: only 8 with an event") for n in notes)
    target = {"kind": "multilabel", "labels": ["died", "rare"]}
    rare = {"rare": [int(i < 4) for i in range(NUM)]}
    _, _, notes = read(files(bags=rare), target=target)
    assert any(n.startswith("warning: rare: only 4 with a 1: hardly") for n in notes)
