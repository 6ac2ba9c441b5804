"""Every kind of target through a sweep by Ray and a prediction of new slides."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import predict, sweep
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.mil.head import load_head

KINDS = {
    "survival": {"time": "months", "event": "died", "loss": "discrete"},
    "multilabel": {"labels": ["tp53", "rb1"]},
    "regression": {"column": "age"},
    "ordinal": {"column": "grade", "classes": ["low", "middle", "high"]},
    "classes": {"column": "sign"},
}
COLUMNS = {
    "survival": {"time", "event", "risk"},
    "multilabel": {"target_tp53", "prob_tp53", "prob_rb1"},
    "regression": {"target", "predicted"},
    "ordinal": {"target", "prob_low", "prob_middle", "prob_high", "predicted"},
    "classes": {"prob_no", "calibrated_yes", "decision", "set", "abstains"},
}
DECISION = {
    "calibration": "temperature",
    "threshold": {"policy": "youden"},
    "coverage": 0.8,
}


def write_cohort(path, names, strength, rng):
    """Every target follows the same signal of a slide, with noise."""
    noisy = strength + rng.normal(0, 0.4, len(names))
    age = 60 + 10 * noisy
    months = np.round(30 * np.exp(-0.8 * noisy) + 1, 2)
    grades = np.array(["low", "middle", "high"])
    table = pd.DataFrame(
        {
            "path": [f"{name}.tiff" for name in names],
            "site": [f"s{i % 6}" for i in range(len(names))],
            "age": age.round(1),
            "months": months,
            "died": (rng.random(len(names)) < 0.7).astype(int),
            "grade": grades[np.digitize(noisy, [-0.5, 0.5])],
            "tp53": pd.array((noisy > 0).astype(int), dtype="Int64"),
            "rb1": pd.array((noisy < 0.3).astype(int), dtype="Int64"),
            "sign": np.where(noisy > 0, "yes", "no"),
        }
    )
    table.loc[::7, "rb1"] = pd.NA
    table.to_csv(path, index=False)
    for name in names:
        (path.parent / f"{name}.tiff").touch()


@pytest.fixture
def study(make_embeddings, tmp_path):
    """Embeddings of 72 slides, and of 24 new ones that lie elsewhere."""
    rng = np.random.default_rng(0)
    for part, num, shift in (("old", 72, 0.0), ("new", 24, 3.0)):
        names = [f"{part}{i}" for i in range(num)]
        strength = rng.normal(size=num)
        slides = {}
        for name, value in zip(names, strength, strict=True):
            values = rng.normal(size=(6, 8))
            values[:, 0] += 2 * value
            values[:, 5] += shift
            slides[name] = {0.5: values.astype(np.float32)}
        make_embeddings(slides, f"{part}_embeddings")
        write_cohort(tmp_path / f"{part}.csv", names, strength, rng)
    return tmp_path


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_swept_and_predicts_new_slides(local_ray, study, kind):
    keys = {
        "embeddings": str(study / "old_embeddings"),
        "cohort": str(study / "old.csv"),
        "out": str(study / "sweep"),
        "axes": {"pooling": [{"name": "embedding_mean"}, {"name": "attention"}]},
        "target": {"kind": kind, **KINDS[kind]},
        "split": {"folds": 3, "group": "site", "validation": 0.3},
        "hidden": [], "epochs": 40, "early_stopping": None,
        "optimiser": {"lr": 0.02}, "batch_size": 8,
        "runtime": {"actors": 1}, "refits": 4,
    }  # fmt: skip
    if kind == "classes":
        keys |= {"decision": DECISION, "draws": "balanced"}
    given = configs.validate(SweepConfig, keys)
    assert sweep.run(given) == 0
    text = (given.out / "summary.md").read_text()
    assert "4 redraws of the patients" in text
    head = load_head(given.out / "best")
    assert head.decision.reference.shape == (72, 8)
    assert (given.out / "report.html").stat().st_size > 20_000
    raw = {
        "head": str(given.out / "best"),
        "embeddings": str(study / "new_embeddings"),
        "cohort": str(study / "new.csv"),
        "out": str(study / "predictions"),
    }
    predict.run(configs.validate(predict.PredictConfig, raw))
    table = pq.read_table(study / "predictions" / "predictions.parquet")
    assert COLUMNS[kind] | {"drift_p"} <= set(table.column_names)
    assert max(table["drift_p"].to_pylist()) < 0.05
    metrics = json.loads((study / "predictions" / "metrics.json").read_text())
    chance = {"regression": 0.0, "ordinal": 0.0}.get(kind, 0.5)
    # The new slides lie elsewhere, which moves a number up or down.
    metric = {"regression": "pearson"}.get(kind, head.kind.chooses)
    assert metrics[metric]["value"] > chance + 0.15
    text = (study / "predictions" / "summary.md").read_text()
    assert "lie apart from those of training" in text
    assert ("Sets: 80% were promised" in text) == (kind == "classes")
    assert (study / "predictions" / "report.html").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"decision": DECISION}, r"of classes, and target\.kind=regression"),
        ({"draws": "balanced"}, "balanced is of classes"),
        ({"pooling": {"name": "noisy_or"}}, "cannot learn target.kind=regression"),
        ({"early_stopping": {"metric": "auroc"}}, "has loss and r2, got 'auroc'"),
        ({"select": "auroc"}, r"target\.kind=regression has r2"),
        ({"refits": 20, "select": None}, "refits: 20 choose a config by validation"),
        ({"refits": 1}, "one does not vary"),
        ({"axes": {"decision.coverage": [0.8]}}, "has to be the same for all configs"),
        ({"split": {"group": "nowhere"}}, "no column 'nowhere'"),
        ({"reduction": "lda"}, "lda separates classes, and the target is regression"),
        ({"prune": {"grace": 5}}, "a config has 5 models, so none is ever pruned"),
        ({"decision": {"by_class": True}}, "by_class: of a coverage, which is null"),
    ],
)
def test_what_does_not_go_together_is_refused_before_work(study, keys, message):
    raw = {
        "embeddings": str(study / "old_embeddings"),
        "cohort": str(study / "old.csv"),
        "out": str(study / "sweep"),
        "target": {"kind": "regression", "column": "age"},
    }
    with pytest.raises((InputError, ValueError), match=message):
        sweep.check(configs.validate(SweepConfig, raw | keys))
    assert not (study / "sweep").exists()
