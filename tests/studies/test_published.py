"""Published units match the current studies, and the published tables match them."""

import json
import shutil
from pathlib import Path

import pytest

from mshisto_ray import config as configs
from mshisto_ray.jobs import reproduce
from mshisto_ray.jobs.reproduce import ReproduceConfig
from mshisto_ray.mil.fit.trained import undecided_share
from mshisto_ray.store.manifest import recipe_digest

PUBLISHED = Path(__file__).parents[2] / "published"
# Those with a plan are of data that commands have made; their own tests hold them.
STUDIES = sorted(
    path.name
    for path in PUBLISHED.iterdir()
    if path.is_dir() and not (path / "plan.json").is_file()
)

SIX = [
    "attention", "gated_attention", "embedding_mean", "embedding_max", "instance_mean",
    "instance_max",
]  # fmt: skip


def settings(name, test_data):
    """Settings of the published units: the study's defaults, and a frozen encoder."""
    if name == "ilse2018_colon_validated":
        chosen = {"epochs": 20, "validation": 0.1, "poolings": SIX}
        return {"name": "ilse2018_colon"} | chosen
    if name == "tcga_rna":
        return {"name": name, "cancers": ["blca", "brca", "gbmlgg", "luad", "ucec"]}
    if name != "ilse2018_colon":
        return {"name": name}
    weights = test_data / "weights" / "mobilenetv2_100_imagenet_fp16.safetensors"
    encoder = {
        "name": "timm", "model": "mobilenetv2_100", "weights": str(weights),
        "num_classes": 1001, "pad_type": "same", "size": 64, "fit": "resize",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    return {"name": name, "encoder": encoder}


@pytest.mark.parametrize("name", STUDIES)
def test_every_unit_is_whole_and_records_no_path(name):
    units = PUBLISHED / name / "units"
    files = sorted(units.glob("*.json"))
    assert files and len(files) == len(list(units.glob("*.parquet")))
    for file in files:
        content = json.loads(file.read_text())
        assert content["recipe_digest"] == recipe_digest(content["recipe"])
        assert content["commit"] and "/" not in json.dumps(content["recipe"])
        result = reproduce._read(file, content)
        assert len(result.predictions) and len(set(result.predictions.bag))


# Heads on bags; those of MNIST-bags have poolings that dilute one nine in ten.
LEARNED = ["ilse2018_musk", "ilse2018_colon", "ilse2018_colon_validated"]
LEARNED += sorted(path.name for path in PUBLISHED.glob("tan2023_*"))


# At 1 um/px nothing shows this label: models that learned their training slides say
# nothing of others. The docs say so.
SHOWS_NOTHING = {("tan2023_trained", "single-scale-1-0")}


@pytest.mark.parametrize("name", LEARNED)
def test_no_published_model_is_hardly_trained(name):
    """By the rules of the warning, on what the units keep."""
    for file in sorted((PUBLISHED / name / "units").glob("*.json")):
        content = json.loads(file.read_text())
        result = reproduce._read(file, content)
        trained = [result.extras.get(k, 1.0) for k in ("trained", "trained_share")]
        undecided = undecided_share(result.predictions) > 0.5
        assert min(trained) == 1
        assert undecided == ((name, file.stem) in SHOWS_NOTHING)


SLOW = {"tcga_rna"}  # replicates of 1,000 patients' survival, 26 times


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in STUDIES],
)
def test_a_study_resumes_from_the_published_units(name, test_data, tmp_path):
    shutil.copytree(PUBLISHED / name / "units", tmp_path / "units")
    given = settings(name, test_data)
    data = test_data / ("survival" if name == "tcga_rna" else "mil")
    raw = {"study": given, "data": data, "out": tmp_path}
    study = reproduce._study(configs.validate(ReproduceConfig, raw))
    done = reproduce._finished_units(tmp_path, study.units())
    assert study.table(done) == (PUBLISHED / name / "table.md").read_text()
