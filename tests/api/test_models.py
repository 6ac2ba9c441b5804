"""Bags, training and prediction from Python: as the jobs, and as the files."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from mshisto_ray import InputError, config, fit, predict, read_bags, read_embeddings
from mshisto_ray.jobs import train
from mshisto_ray.mil.head import load_head

NUM = 20
KEYS = {
    "pooling": {"name": "gated_attention"},
    "hidden": [4],
    "epochs": 3,
    "noise": {"name": "gaussian", "sigma": 0.1},
}
SPLIT = {"folds": 3, "seed": 5}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """The cache of read_bags lies in the folder for temporary files."""
    from mshisto_ray.api import models
    from mshisto_ray.store.cache import CacheConfig

    cache = CacheConfig(dir=tmp_path / "cache")
    monkeypatch.setattr(models, "CacheConfig", lambda: cache)


@pytest.fixture
def study(make_embeddings, tmp_path):
    """Embeddings of 20 slides at two scales, one without tiles, and their cohort."""
    rng = np.random.default_rng(0)
    slides, rows = {}, ["path,patient_id,grade"]
    for i in range(NUM):
        num = int(rng.integers(2, 6)) if i != 7 else 0
        parts = {0.5: 2 * num, 1.0: num}
        slides[f"s{i:02d}"] = {
            m: rng.normal(i % 2, 1, (n, 3)) for m, n in parts.items()
        }
        rows.append(f"s{i:02d}.svs,p{i % 18},{['low', 'high'][i % 2]}")
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("\n".join(rows) + "\n")
    return {"embeddings": make_embeddings(slides), "cohort": cohort}


def read(study, **keys):
    return read_bags(**study, target={"column": "grade"}, **keys)


def test_a_bag_holds_the_own_tiles_of_its_slide(study):
    bags = read(study, scale=1.0)
    assert bags.classes == ("high", "low") and len(bags) == NUM
    for i, name in enumerate(bags.names):
        tiles = read_embeddings(study["embeddings"], name, 1.0)
        found = bags.bag(i)
        np.testing.assert_array_equal(found.values[0], tiles.values)
        assert found.parents == () and bags.sizes[i] == len(tiles.row)
    assert bags.bag(7).values[0].shape == (0, 3)
    assert "no tile at 1.0 um/px" in " ".join(bags.notes)


def test_a_bag_of_scales_holds_every_tile_under_its_parent(study):
    bags = read(study, scales=[1.0, 0.5], unit="patient")
    i = bags.names.index("p1")  # has slides 1 and 19
    coarse, fine = bags.bag(i).values
    (parents,) = bags.bag(i).parents
    expected = []
    before = 0
    for slide in ("s01", "s19"):
        # Instances are own tiles; their children are all that exist.
        parts = [
            read_embeddings(study["embeddings"], slide, mpp, own_only=mpp == 1.0)
            for mpp in (1.0, 0.5)
        ]
        for place, row in enumerate(parts[0].row):
            for r, value in zip(parts[1].row, parts[1].values, strict=True):
                if r // 2 == row and parts[0].col[place] == 0:
                    expected.append((before + place, value.tolist()))
        before += len(parts[0].row)
    assert len(coarse) == before
    found = list(zip(parents.tolist(), fine.tolist(), strict=True))
    assert sorted(found) == sorted(expected)


def test_some_bags_are_those_bags(study):
    bags = read(study, scale=1.0)
    some = bags.take([5, 2])
    assert some.names == ("s05", "s02")
    assert some.targets.tolist() == [bags.targets[5], bags.targets[2]]
    np.testing.assert_array_equal(some.bag(1).values[0], bags.bag(2).values[0])


def test_fit_equals_the_job_train(study, tmp_path):
    given = {
        **{name: str(path) for name, path in study.items()},
        "target": {"column": "grade"}, "split": SPLIT, "scale": 1.0, **KEYS,
        "refit": True, "out": str(tmp_path / "out"),
        "runtime": {"cache": {"dir": str(tmp_path / "cache")}},
    }  # fmt: skip
    job = config.validate(train.TrainJobConfig, given)
    train.run(job)
    result = tmp_path / "out" / "result"
    found = fit(read(study, scale=1.0), split=SPLIT, refit=True, **KEYS)
    for table, name in [(found.predictions, "test"), (found.validation, "val")]:
        file = {"test": "predictions", "val": "validation"}[name]
        pd.testing.assert_frame_equal(
            table, pd.read_parquet(result / f"{file}.parquet")
        )
    metrics = json.loads((result / "metrics.json").read_text())
    for name, value in found.metrics.items():
        assert metrics[name] == (pytest.approx(value) if np.isfinite(value) else None)
    folder = found.save(tmp_path / "saved")
    about = [
        json.loads((f / "model.json").read_text()) for f in (folder, result / "head")
    ]
    assert about[0] == about[1]
    own, other = load_head(folder), load_head(result / "head")
    for model, same in zip(own.models, other.models, strict=True):
        for name, value in model.model.state_dict().items():
            assert torch.equal(value, same.model.state_dict()[name])


def test_predict_equals_the_out_of_fold_predictions(study, tmp_path):
    bags = read(study, scale=1.0)
    fitted = fit(bags, split=SPLIT, **KEYS)
    unlabelled = read_bags(**study, target=None, scale=1.0)
    for head in (fitted, fitted.head, str(fitted.save(tmp_path / "new" / "head"))):
        found = predict(head, unlabelled)
        table = found.table.set_index("bag")
        assert list(table.index) == list(bags.names)
        empty = table.loc["s07"]
        assert empty.models == 0 and pd.isna(empty.predicted)
        assert np.isnan(empty.prob_low)
        own = fitted.predictions
        joined = own.merge(found.table, on="bag", suffixes=("", "_again"))
        assert len(joined) == NUM - 1
        np.testing.assert_allclose(joined.prob_low, joined.prob_low_again, atol=1e-6)
        assert (joined.predicted == joined.predicted_again).all()
        for name, size in zip(bags.names, bags.sizes, strict=True):
            if size:
                assert found.attention[name].shape == (size,)
                assert found.attention[name].sum() == pytest.approx(1)
    no_scores = fit(bags, split=SPLIT, **KEYS | {"pooling": {"name": "embedding_max"}})
    assert predict(no_scores, unlabelled).attention is None


def test_dotted_keys_are_inner_keys(study):
    bags = read(study, scale=1.0)
    quick = {**KEYS, "epochs": 1, "split": SPLIT}
    one = fit(bags, **quick, **{"optimiser.lr": 0.01})
    two = fit(bags, **quick, optimiser={"lr": 0.01})
    pd.testing.assert_frame_equal(one.predictions, two.predictions)


def test_wrong_input_is_one_line(study, tmp_path):
    bags = read(study, scale=1.0)
    with pytest.raises(InputError, match=r"epoch: unknown key; .* did you mean epochs"):
        fit(bags, epoch=3)
    with pytest.raises(InputError, match="folds"):
        fit(bags, split={"folds": 1})
    with pytest.raises(InputError, match="target=COLUMN"):
        fit(read_bags(**study, target=None, scale=1.0))
    with pytest.raises(InputError, match="column"):
        read_bags(**study, target="label")
    with pytest.raises(InputError, match=r"no model\.json"):
        predict(tmp_path, bags)
