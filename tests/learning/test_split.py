import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig, make_splits

CLASSES = ("benign", "malignant")


def cohort(seed=0, patients=60, largest=4):
    """Patients with 1..largest bags; a quarter of the bags are malignant."""
    rng = np.random.default_rng(seed)
    names, targets = [], []
    for p in range(patients):
        for _ in range(rng.integers(1, largest + 1)):
            names.append(f"p{p}")
            targets.append(int(rng.random() < 0.25))
    return names, np.array(targets)


@pytest.mark.parametrize("validation", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("largest", [1, 4])
def test_each_bag_is_tested_once_and_patients_never_part(validation, largest):
    names, targets = cohort(largest=largest)
    config = SplitConfig(folds=5, repeats=3, validation=validation)
    splits = make_splits(config, names, targets, CLASSES)
    assert len(splits) == 15
    for repeat in range(3):
        tested = [s.test for s in splits if s.repeat == repeat]
        assert sorted(np.concatenate(tested)) == list(range(len(names)))
    for s in splits:
        used = np.concatenate([s.train, s.validation, s.test])
        assert sorted(used) == list(range(len(names)))
        parts = [{names[i] for i in p} for p in (s.train, s.validation, s.test)]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_folds_are_balanced_where_patients_have_one_bag():
    names = [f"p{i}" for i in range(92)]
    targets = np.array([1] * 47 + [0] * 45)
    for s in make_splits(SplitConfig(folds=10), names, targets, CLASSES):
        assert np.bincount(targets[s.test]).tolist() in ([4, 5], [5, 4], [5, 5], [4, 4])
        assert len(s.validation) / (92 - len(s.test)) == pytest.approx(0.2, abs=0.02)
        assert abs(targets[s.validation].mean() - 47 / 92) < 0.05


def test_classes_are_spread_over_folds_with_patients_of_many_bags():
    names, targets = cohort(patients=300)
    rates = [
        targets[s.test].mean()
        for s in make_splits(SplitConfig(folds=5), names, targets, CLASSES)
    ]
    sizes = [
        len(s.test) for s in make_splits(SplitConfig(folds=5), names, targets, CLASSES)
    ]
    assert np.ptp(rates) < 0.02
    assert np.ptp(sizes) < 0.05 * np.mean(sizes)


def test_a_class_with_as_many_patients_as_folds_is_in_every_part_it_can_be():
    names = [f"p{i}" for i in range(40)]
    targets = np.array([1] * 4 + [0] * 36)
    for s in make_splits(SplitConfig(folds=4), names, targets, CLASSES):
        assert targets[s.test].sum() == 1
        assert targets[s.train].sum() == 2
        assert targets[s.validation].sum() == 1


def test_only_the_seed_decides():
    names, targets = cohort()

    def folds(**keys):
        config = SplitConfig(repeats=2, **keys)
        return [s.test.tolist() for s in make_splits(config, names, targets, CLASSES)]

    assert folds(seed=1) == folds(seed=1) == folds(seed=1, validation=0)
    assert folds(seed=1) != folds(seed=2)
    assert folds(seed=1)[:5] != folds(seed=1)[5:]


def test_given_folds_are_kept():
    names = ["a", "a", "b", "c", "d"]
    targets = np.array([0, 1, 1, 0, 1])
    given = ["x", "x", "y", "y", "x"]
    splits = make_splits(SplitConfig(validation=0), names, targets, CLASSES, given)
    assert [s.test.tolist() for s in splits] == [[0, 1, 4], [2, 3]]


@pytest.mark.parametrize(
    ("names", "targets", "given", "message"),
    [
        (["a", "b"], [1, 1], None, "only 'malignant' is left"),
        ([], [], None, "no labelled bag"),
        (["a", "b", "c", "c", "c"], [0, 0, 1, 1, 1], None, "'malignant' has 1 patient"),
        (["a", "a", "b"], [0, 0, 1], ["x", "y", "x"], "patient 'a' is in folds"),
        (["a", "b"], [0, 1], ["x", None], r"empty for 1 patients .*\(b\)"),
        (["a", "b"], [0, 1], ["x", "x"], "only 'x'"),
    ],
)
def test_impossible_folds_are_refused(names, targets, given, message):
    with pytest.raises(InputError, match=message):
        make_splits(
            SplitConfig(folds=2), names, np.array(targets, dtype=int), CLASSES, given
        )
