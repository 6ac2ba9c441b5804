import dataclasses
import json

import numpy as np
import pytest
import torch
from fixtures.parts import examples
from fixtures.poolings import DIM, pooling

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.scoring import log_probabilities
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.mil.predict import predict
from mshisto_ray.mil.trained_head import save_head

CPU = torch.device("cpu")
SPLIT = SplitConfig(folds=3, repeats=2)


def trained(bags, path, refit=False, **keys):
    quick = {"hidden": [8], "epochs": 2, "early_stopping": None}
    training = config.validate(TrainConfig, quick | keys)
    splits = plan_splits(bags, SPLIT, training)
    result = cross_validate(bags, splits, training, CPU, refit)
    save_head(path, result, bags, training, {"unit": "slide"})
    return result


def renamed(bags):
    """The same bags, of patients that no model was trained on."""
    patients = tuple(f"new {p}" for p in bags.patient_ids)
    return dataclasses.replace(bags, patient_ids=patients)


@pytest.mark.parametrize("part", examples(POOLINGS))
@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_seen_patients_get_their_out_of_fold_predictions(
    planted, tmp_path, part, classes
):
    bags = planted(num=36, classes=classes)
    name, keys = part
    result = trained(bags, tmp_path / "head", pooling={"name": name, **keys})
    found = predict(load_head(tmp_path / "head"), bags, CPU)
    test = result.test
    for i, bag in enumerate(bags.names):
        wanted = test.probabilities[test.bag == bag].mean(0)
        np.testing.assert_allclose(found.probabilities[i], wanted, rtol=1e-5)
    assert (found.models == SPLIT.repeats).all()
    if found.attention is not None:
        sums = np.add.reduceat(found.attention, found.offsets[:-1])
        np.testing.assert_allclose(sums, np.ones(36), rtol=1e-5)
    if found.instance_probabilities is not None:
        total = found.instance_probabilities.sum(1)
        np.testing.assert_allclose(total, np.ones(len(total)), rtol=1e-5)
    out = pooling(part, classes)(torch.zeros(2, DIM), torch.tensor([0, 2]))
    assert (found.attention is None) == (out.attention is None)


def test_unseen_patients_get_the_mean_of_all_models(planted, tmp_path):
    bags = planted(num=36)
    result = trained(bags, tmp_path / "head")
    head = load_head(tmp_path / "head")
    found = predict(head, renamed(bags), CPU)
    assert (found.models == 6).all()
    index = np.array([4])
    each = [
        log_probabilities(m.model, Batches(bags, m.standardisation, CPU), index).exp()
        for m in result.models
    ]
    np.testing.assert_allclose(
        found.probabilities[4], torch.cat(each).mean(0), rtol=1e-6
    )


def test_the_refit_predicts_unseen_patients_only(planted, tmp_path):
    bags = planted(num=36)
    trained(bags, tmp_path / "head", refit=True)
    head = load_head(tmp_path / "head")
    assert (predict(head, bags, CPU).models == SPLIT.repeats).all()
    assert (predict(head, renamed(bags), CPU).models == 1).all()
    mixed = dataclasses.replace(bags, patient_ids=("other", *bags.patient_ids[1:]))
    assert predict(head, mixed, CPU).models.tolist() == [1] + [2] * 35


def test_a_head_records_its_origin(planted, tmp_path):
    bags = planted(num=36, per_patient=2)
    trained(bags, tmp_path / "head")
    about = json.loads((tmp_path / "head" / "model.json").read_text())
    assert about["classes"] == ["a", "b"] and about["threshold"] == 0.5
    assert about["unit"] == "slide" and about["dims"] == [6]
    assert set(about["folds"]) == set(bags.patient_ids)
    assert all(len(folds) == 2 for folds in about["folds"].values())
    files = {p.name for p in (tmp_path / "head").iterdir()}
    assert files == {"model.json"} | {
        f"repeat{r}-fold{f}.safetensors" for r in range(2) for f in range(3)
    }


def test_saving_again_replaces_the_head(planted, tmp_path):
    trained(planted(num=36), tmp_path / "head", refit=True)
    trained(planted(num=36), tmp_path / "head", hidden=[])
    head = load_head(tmp_path / "head")
    assert len(head.models) == 6 and head.about["config"]["hidden"] == []
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


def test_other_bags_are_refused(planted, tmp_path):
    trained(planted(num=36), tmp_path / "head")
    head = load_head(tmp_path / "head")
    with pytest.raises(InputError, match="width 6, these have width 7"):
        predict(head, planted(dim=7), CPU)
    with pytest.raises(InputError, match=r"1 bags without instances .*\(b3\)"):
        predict(head, planted(empty=(3,)), CPU)
    with pytest.raises(InputError, match=r"at scale None, these bags are at 0\.5"):
        predict(head, dataclasses.replace(planted(), scale=0.5), CPU)
    other = dataclasses.replace(planted(), encoder={"name": "x", "digest": "1"})
    with pytest.raises(InputError, match=r"encoder None, these are of \{'name': 'x'"):
        predict(head, other, CPU)


def test_what_is_not_a_head_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a head"):
        load_head(tmp_path)
    (tmp_path / "model.json").write_text('{"version": 0}')
    with pytest.raises(InputError, match="head version 0"):
        load_head(tmp_path)
