import dataclasses

import numpy as np
import pytest
import torch

from mshisto_ray.mil.fit import batches as module
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.store.features import ArrayFeatures

CPU = torch.device("cpu")


def with_patients(bags):
    """Every two slides in one bag, the later one first."""
    pairs = tuple((i + 1, i) for i in range(0, len(bags), 2))
    sizes = np.array([sum(bags.sizes[m] for m in pair) for pair in pairs])
    return dataclasses.replace(
        bags, names=bags.names[::2], members=pairs, sizes=sizes,
        patient_ids=bags.patient_ids[::2], targets=bags.targets[::2],
    )  # fmt: skip


def test_standardisation_uses_the_given_bags_only(planted):
    bags = planted(num=10)
    index = np.array([7, 2, 3])
    found = fit_standardisation(bags, slide_moments(bags), index)
    rows = np.concatenate([bags.features.read(i) for i in index]).astype(float)
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.std, rows.std(0), rtol=1e-5)


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("patients", [False, True])
def test_batches_are_the_bags_in_the_given_order(planted, monkeypatch, ready, patients):
    monkeypatch.setattr(module, "_READY_BYTES", 1 << 20 if ready else 0)
    bags = with_patients(planted(num=8)) if patients else planted(num=8)
    standardise = fit_standardisation(bags, slide_moments(bags), np.arange(3))
    batches = Batches(bags, standardise, CPU)
    index = np.array([2, 0, 3])
    h, offsets, finer, *_ = batches.get(index)
    assert not finer
    wanted = [np.concatenate(bags.read(i)) for i in index]
    assert offsets.dtype == torch.int64
    assert offsets.diff().tolist() == [len(w) for w in wanted]
    plain = torch.from_numpy(np.concatenate(wanted))
    assert torch.equal(h, (plain - standardise.mean) / standardise.std)


def test_a_single_bag_is_a_view(planted):
    bags = planted(num=4)
    batches = Batches(
        bags, fit_standardisation(bags, slide_moments(bags), np.arange(4)), CPU
    )
    one, two = batches.get([1])[0], batches.get([1])[0]
    assert one.data_ptr() == two.data_ptr()


def test_half_precision_features_become_float32(planted):
    bags = planted(num=4)
    values = bags.features.values.astype(np.float16)
    half = ArrayFeatures(bags.names, values, bags.features.offsets)
    bags = dataclasses.replace(bags, features=half)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(4))
    assert Batches(bags, fitted, CPU).get([0])[0].dtype == torch.float32


@pytest.mark.parametrize("limit", [1, 7, 10**6])
def test_runs_hold_every_bag_once_and_are_not_too_large(planted, monkeypatch, limit):
    monkeypatch.setattr(module, "_EVALUATION_ROWS", limit)
    bags = planted(num=20)
    fitted = fit_standardisation(bags, slide_moments(bags), np.arange(20))
    index = np.random.default_rng(0).permutation(20)
    runs = list(Batches(bags, fitted, CPU).in_order(index))
    assert np.concatenate(runs)[:, 0].tolist() == index.tolist()
    for run in runs:
        assert len(run) == 1 or bags.sizes[run[:, 0]].sum() <= limit
    assert limit < 10**6 or len(runs) == 1
