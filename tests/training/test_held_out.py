"""Patients that are not trained on."""

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.training.held_out import split_patients


def test_no_patient_is_in_training_and_validation(index):
    train, held_out = split_patients(index, 0.3, 0)
    patients = [set(index.patient[index.slide(t)]) for t in (train, held_out)]
    assert not patients[0] & patients[1] and len(patients[1]) == 2
    assert len(train) + len(held_out) == len(index)
    with pytest.raises(InputError, match="has one patient"):
        only = index.subset(np.flatnonzero(index.slide(np.arange(len(index))) == 0))
        split_patients(
            type(only)(**{**vars(only), "patient": np.zeros(6, int)}), 0.3, 0
        )


def test_classes_are_held_out_in_their_share(make_index):
    labels = [0, 0, 1, 1, 1, 1, 0, 0, 1, 1]
    index = make_index(num_slides=10, side=4, labels=labels)
    _, held_out = split_patients(index, 0.2, 0)
    assert set(index.label[index.slide(held_out)]) == {0, 1}


def test_a_patient_is_of_the_rarest_class_of_its_slides(make_index):
    """Otherwise a rare class would be held out by chance alone, or not at all."""
    rare = [1, -1, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0]
    for seed in range(20):
        index = make_index(num_slides=12, side=4, labels=rare)
        parts = split_patients(index, 0.3, seed)
        patients = [set(index.patient[index.slide(part)]) for part in parts]
        # Patients 0 and 1 have a slide of the rare class each.
        assert len(patients[1] & {0, 1}) == 1
