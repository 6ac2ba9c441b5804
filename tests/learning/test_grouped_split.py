"""Folds that leave whole sites out."""

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.target_split import GroupedSplitConfig, split_targets
from mshisto_ray.learning.targets import TargetConfig

CLASSES = TargetConfig().build()
PATIENTS = [f"p{i}" for i in range(60)]
SITES = [f"s{i % 12}" for i in range(60)]
TRUTH = np.arange(60) // 12 % 2


def split(groups=SITES, given=None, target=CLASSES, truth=TRUTH, **keys):
    config = GroupedSplitConfig(**{"folds": 3, "group": "site", **keys})
    return split_targets(config, target, PATIENTS, truth, "ab", given, groups)


def test_no_site_is_in_two_parts_and_each_is_tested_once():
    sites, tested = np.array(SITES), []
    for part in split(repeats=2):
        parts = [set(sites[i]) for i in (part.train, part.validation, part.test)]
        assert all(parts) and not (
            parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]
        )
        tested += parts[2]
    assert sorted(tested) == sorted([*set(SITES), *set(SITES)])


def test_other_targets_keep_sites_together_too():
    target = TargetConfig(kind="regression", column="age").build()
    sites = np.array(SITES)
    ages = np.arange(60.0)
    for part in split(target=target, truth=ages):
        assert not set(sites[part.test]) & set(sites[part.train])


def test_without_a_group_folds_are_as_before():
    plain = split_targets(SplitConfig(folds=3), CLASSES, PATIENTS, TRUTH, "ab")
    for one, two in zip(plain, split(group=None), strict=True):
        np.testing.assert_array_equal(one.test, two.test)
        np.testing.assert_array_equal(one.validation, two.validation)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"given": ["0", "1"] * 30}, r"only one of the two can decide"),
        ({"groups": None}, "were read without it"),
        ({"groups": [None, *SITES[1:]]}, r"empty for 1 patients with a label \(p0\)"),
        ({"groups": ["one"] * 60}, "all bags have 'one'"),
        ({"groups": ["x", "y"] * 30}, "has 2 values of 'site', fewer than"),
    ],
)
def test_groups_that_cannot_be_used_are_named(keys, message):
    with pytest.raises(InputError, match=message):
        split(**keys)


def test_a_patient_of_two_sites_is_refused():
    config = GroupedSplitConfig(folds=2, group="site")
    twice = ["p0", "p0", *PATIENTS[2:]]
    with pytest.raises(InputError, match="patient 'p0' has 's0' and 's1'"):
        split_targets(config, CLASSES, twice, TRUTH, "ab", None, SITES)
