"""Metrics within the values of a column."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.prediction.external_metrics import external_metrics
from mshisto_ray.prediction.subgroups import (
    find_subgroups,
    small_groups,
    subgroup_table,
)
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.store.cohort import Cohort, CohortSlide

CLASSES = ("no", "yes")


def cohort(sites):
    """A slide per site; two slides a patient."""
    rows = [
        CohortSlide(f"s{i}", f"p{i // 2}", Path(f"s{i}"), None, None, {"site": site})
        for i, site in enumerate(sites)
    ]
    return Cohort(Path("cohort.csv"), tuple(rows), ())


@pytest.fixture
def study():
    sites = ["A"] * 24 + ["B"] * 6 + [None, None]
    rng = np.random.default_rng(0)
    targets = np.arange(32) // 2 % 2
    targets[24:30] = 0
    yes = np.clip(0.5 + 0.2 * (targets - 0.5) + rng.normal(0, 0.2, 32), 0, 1)
    bags = [Bag(f"s{i}", f"p{i // 2}", [f"s{i}"]) for i in range(32)]
    return cohort(sites), bags, np.stack([1 - yes, yes], 1), targets


def find(study, columns=("site",)):
    table, bags, probabilities, targets = study
    return find_subgroups(table, columns, CLASSES, bags, probabilities, targets)


def test_each_value_has_the_metrics_of_its_bags_alone(study):
    groups = find(study)
    assert [(g.value, g.bags, g.patients) for g in groups] == [
        ("A", 24, 12), ("B", 6, 3), ("(none)", 2, 1)]  # fmt: skip
    _, bags, probabilities, targets = study
    own, _ = external_metrics(CLASSES, bags[:24], probabilities[:24], targets[:24])
    assert groups[0].metrics == own
    assert "'no' 12, 'yes' 12" in groups[0].line and "auroc 0." in groups[0].line


def test_a_group_of_one_class_and_small_ones_are_named(study):
    groups = find(study)
    assert math.isnan(groups[1].metrics["auroc"].value)
    assert "'no' 6, 'yes' 0); accuracy" in groups[1].line
    (note,) = small_groups(groups)
    assert note.endswith("say little: site=B (3), site=(none) (1)")
    assert not small_groups(groups[:1])


def test_a_patient_of_two_sites_belongs_to_none_of_them():
    bags = [Bag("p0", "p0", ["s0", "s1"]), Bag("p1", "p1", ["s2", "s3"])]
    table = cohort(["A", "B", "A", "A"])
    groups = find((table, bags, np.full((2, 2), 0.5), np.array([0, 1])))
    assert [g.value for g in groups] == ["(several)", "A"]


def test_the_table_holds_every_group_and_metric(study):
    groups = find(study)
    rows = list(csv.DictReader(subgroup_table(groups).splitlines()))
    assert len(rows) == sum(len(g.metrics) for g in groups)
    (row,) = [r for r in rows if (r["value"], r["metric"]) == ("A", "auroc")]
    assert float(row["low"]) == groups[0].metrics["auroc"].low
    (row,) = [r for r in rows if (r["value"], r["metric"]) == ("B", "auroc")]
    assert row["estimate"] == "" and row["patients"] == "3"


def test_a_column_that_is_not_there_is_refused(study):
    with pytest.raises(InputError, match="no column 'sex'"):
        find(study, ["sex"])
