"""`compare`: published risks of other models, tables of classes, bad input."""

import csv
import os
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fixtures.predictions import predictions

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import compare
from mshisto_ray.jobs.compare import CompareConfig
from mshisto_ray.learning.given_predictions import read_models
from mshisto_ray.learning.model_rows import PredictionColumns
from mshisto_ray.learning.predictions import write_predictions
from mshisto_ray.learning.risks import RiskEstimates

RISKS = Path(os.environ.get("MSHISTO_TEST_DATA", "")) / "survival"
RISKS = RISKS / "published_risks.parquet"
MCAT = "MCATsm_concat"
# Mean over folds of C, as published.
PUBLISHED = {
    "blca": "0.624",
    "brca": "0.580",
    "gbmlgg": "0.818",
    "luad": "0.620",
    "ucec": "0.622",
}
needs_risks = pytest.mark.skipif(
    not RISKS.is_file(), reason="no survival/ in $MSHISTO_TEST_DATA"
)


def job(out, **keys):
    return configs.validate(CompareConfig, {"out": out, **keys})


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@needs_risks
def test_published_risks_give_the_published_values():
    columns = PredictionColumns(group="cancer", time="months")
    groups = read_models([RISKS], columns, {})
    found = {
        cancer: RiskEstimates(models[MCAT].risks()).values["c", "folds"]
        for cancer, models in groups.items()
    }
    assert {cancer: f"{value:.3f}" for cancer, value in found.items()} == PUBLISHED


@needs_risks
@pytest.mark.parametrize(
    ("cancers", "models"),
    [
        (["ucec"], "concat"),  # fewest events
        pytest.param(list(PUBLISHED), "", marks=pytest.mark.slow),
    ],
    ids=["one", "all"],
)
def test_the_lead_of_the_published_winner_is_within_noise(tmp_path, cancers, models):
    table = pq.read_table(RISKS)
    path = tmp_path / "risks.parquet"
    chosen = table.filter(pc.field("cancer").isin(cancers))
    pq.write_table(chosen.filter(pc.match_substring(chosen["model"], models)), path)
    config = job(
        tmp_path / "out",
        predictions=str(path),
        columns={"group": "cancer", "time": "months"},
        reference=MCAT,
    )
    compare.run(config)
    out = config.out
    gaps = [r for r in read(out / "differences.csv") if r["difference"]]
    for cancer in cancers:
        best = next(row for row in gaps if row["group"] == cancer)
        assert float(best["low"]) < 0 < float(best["high"])
        assert (out / f"kaplan_meier_{cancer}.png").stat().st_size > 5000
    text = (out / "summary.md").read_text()
    assert text.count("within noise") == len(cancers)


def test_tables_of_our_own_are_compared_by_their_folders(tmp_path):
    paths = []
    for skill in (0, 2, 3):
        path = tmp_path / f"skill{skill}" / "predictions.parquet"
        path.parent.mkdir()
        write_predictions(path, predictions(skill=skill, seed=skill, repeats=2))
        paths.append(path)
    out = tmp_path / "out"
    config = job(out, predictions=paths)
    compare.check(config)
    assert not out.exists()
    compare.run(config)
    rows = [r for r in read(out / "metrics.csv") if r["metric"] == "auroc_pooled"]
    assert [r["model"] for r in rows] == ["skill3", "skill2", "skill0"]
    gaps = {r["model"]: r for r in read(out / "differences.csv")}
    assert float(gaps["skill0"]["high"]) < 0
    assert not set(gaps["skill0"]["letters"]) & set(gaps["skill3"]["letters"])
    assert (out / "roc_all.png").stat().st_size > 5000
    assert "60 patients; 'no' " in (out / "summary.md").read_text()


TABLE = "patient_id,months,event,a,b\np1,3,1,.5,.1\np2,4,0,.2,.9\np3,5,1,.1,.3\n"


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"metric": "auroc"}, "metric: no 'auroc'; have c, uno_c"),
        ({"reference": "x"}, "reference: no model 'x' in all; have one, two"),
        ({"models": {"one": "z"}}, "models.one: no column 'z'"),
        ({"columns": {"time": "days"}}, "columns.time: no column 'days'"),
        ({"predictions": "gone.csv"}, "gone.csv: no such table of predictions file"),
    ],
)
def test_bad_input_is_refused_before_work(tmp_path, keys, match):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    given = {
        "predictions": path,
        "columns": {"time": "months"},
        "models": {"one": "a", "two": "b"},
    }
    with pytest.raises(InputError, match=match):
        compare.check(job(tmp_path / "out", **given | keys))
    compare.check(job(tmp_path / "out", **given))


def test_models_of_other_bags_are_refused(tmp_path):
    for name, num in (("one", 60), ("two", 50)):
        write_predictions(tmp_path / f"{name}.parquet", predictions(num))
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    with pytest.raises(InputError, match="predictions of different bags"):
        compare.check(job(tmp_path / "out", predictions=paths))
