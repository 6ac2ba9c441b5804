from pathlib import Path

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.given_folds import read_given_folds, refuse_other_split
from mshisto_ray.learning.split import SplitConfig, make_splits

CLASSES = ("neg", "pos")
TARGETS = np.arange(24) % 2
PATIENTS = [f"p{i}" for i in range(24)]


def splits(given, **keys):
    return make_splits(SplitConfig(**keys), PATIENTS, TARGETS, CLASSES, given)


def test_numbers_of_folds_are_those_of_the_user():
    given = [str(i // 2 + 1) for i in range(24)]
    found = splits(given)
    assert [s.fold for s in found] == list(range(1, 13))
    assert all({given[i] for i in s.test} == {str(s.fold)} for s in found)
    assert read_given_folds(given, PATIENTS).words == (
        "12 folds, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"
    )


def test_numbers_may_have_gaps_and_zeros_in_front():
    found = splits(["03", "10", "7"] * 8)
    assert [s.fold for s in found] == [3, 7, 10]
    assert found[2].test.tolist() == list(range(1, 24, 3))


def test_numbers_are_found_behind_one_word():
    given = [f"fold-{i // 2 + 1}" for i in range(24)]
    found = splits(given)
    assert [s.fold for s in found] == list(range(1, 13))
    assert {given[i] for i in found[9].test} == {"fold-10"}
    mixed = ["a1", "b1", "a2"] * 8
    assert [s.fold for s in splits(mixed)] == [0, 1, 2]


def test_the_word_before_the_number_may_differ_in_case():
    assert [s.fold for s in splits(["Fold 1", "fold 2"] * 12)] == [1, 2]


@pytest.mark.parametrize(
    "names", [("True", "False"), ("internal", "external"), ("in", "out"),
              ("Discovery", "replication"), ("seen", "unseen")],
)  # fmt: skip
def test_words_of_another_split_are_no_folds(names):
    with pytest.raises(InputError, match="parts of a split, not folds: write train"):
        splits(list(names) * 12)


@pytest.mark.parametrize("names", [("1", "1.0"), ("A", "a"), ("fold1", "Fold 01")])
def test_a_fold_in_two_spellings_is_refused(names):
    with pytest.raises(InputError, match=r"fold column: .* differ only by"):
        splits([*names, "b"] * 8)


def test_names_of_folds_are_numbered_in_their_order():
    given = ["berlin", "aachen"] * 12
    assert [s.fold for s in splits(given)] == [0, 1]
    found = read_given_folds(given, PATIENTS)
    assert found.words == "2 folds, numbered 0 = 'aachen', 1 = 'berlin'"


@pytest.mark.parametrize(
    "words",
    [("train", "val", "test"), ("Training", "validation", "testing"),
     ("TRAIN", "tune", "Test set"), ("train_set", "valid", "hold-out"),
     ("train", "dev", "test"), ("trn", "va", "tst"), ("TR", "VAL", "TE")],
)  # fmt: skip
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_given_split_is_one_split(words, validation):
    given = [words[0]] * 12 + [words[1]] * 6 + [words[2]] * 6
    (split,) = splits(given, validation=validation)
    assert (split.repeat, split.fold) == (0, 0)
    assert split.train.tolist() == list(range(12))
    assert split.validation.tolist() == list(range(12, 18))
    assert split.test.tolist() == list(range(18, 24))


def test_validation_is_drawn_from_train_where_none_is_given():
    given = ["train"] * 16 + ["test"] * 8
    one, two = splits(given, validation=0.25, repeats=2)
    for split in (one, two):
        assert split.test.tolist() == list(range(16, 24))
        both = sorted([*split.train, *split.validation])
        assert both == list(range(16)) and len(split.validation) == 4
    assert (two.repeat, two.fold) == (1, 0)
    assert one.validation.tolist() != two.validation.tolist()
    (whole,) = splits(given, validation=0)
    assert whole.train.tolist() == list(range(16)) and not len(whole.validation)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["train", "val", "val"], "no labelled row is 'test'"),
        (["test", "val", "test"], "no labelled row is 'train'"),
        (["train", "test", "external"], "'external' beside words of a split"),
        (["train", "test", "3"], "'3' beside words"),
        (["-1", "0", "1"], "'-1' is negative"),
        (["1", "1", "1"], "only '1'; at least two"),
        (["train", None, "test"], "empty for 8 patients"),
    ],
)
def test_folds_that_cannot_be_used_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        splits(given * 8)


def test_a_patient_in_two_parts_is_refused():
    with pytest.raises(InputError, match="patient 'a' is in folds 'train' and 'test'"):
        read_given_folds(["train", "test"], ["a", "a"])


def test_a_split_under_another_name_is_refused():
    columns = {"subset": ["x", "y"], "split": ["train", None, "Test"]}
    with pytest.raises(InputError, match=r"'split' holds a split.*split\.column=split"):
        refuse_other_split(Path("cohort.csv"), "fold", columns)
    refuse_other_split(Path("cohort.csv"), "fold", {"subset": ["x", "train"]})
