"""The job on drawn images: colour tells the classes apart, a random network less."""

import csv

import numpy as np
import pytest
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import select_backbone
from mshisto_ray.jobs.select_backbone import SelectConfig


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    lines = ["file\tlabel\tpatient_id"]
    for i in range(32):
        pixels = rng.integers(100, 200, (40 + i % 3, 48, 3), dtype=np.uint8)
        pixels[..., i % 2] += 40
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{'ab'[i % 2]}\tp{i // 4}")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    return folder / "labels.tsv"


def settings(table, out, **keys):
    raw = {
        "images": {"table": table},
        "encoders": {"colours": {"name": "colour_stats", "quantiles": [0.5]}},
        "floors": False,
        "split": {"folds": 4},
        "out": out,
    }
    return configs.validate(SelectConfig, raw | keys)


def test_a_table_of_every_encoder_and_probe(table, tmp_path, capsys):
    noise = {"name": "timm", "model": "test_resnet", "weights": "random"}
    encoders = {"colours": {"name": "colour_stats"}, "random": noise}
    config = settings(table, tmp_path / "out", encoders=encoders)
    select_backbone.check(config)
    select_backbone.run(config)
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = {(r["encoder"], r["probe"]): r for r in csv.DictReader(file)}
    assert len(rows) == 6
    assert float(rows["colours", "linear"]["balanced_accuracy"]) == 1
    text = (tmp_path / "out" / "summary.md").read_text()
    assert text in capsys.readouterr().out
    assert "Only 8 groups" in text and "## knn" in text and "| 1 | colours |" in text


def test_a_reduction_too_wide_for_an_encoder_is_refused_before_work(table, tmp_path):
    wide = {"wide": {"name": "dense", "reduction": {"name": "pca", "dim": 30}}}
    with pytest.raises(InputError, match=r"pca to 30 needs .* features, have 9"):
        select_backbone.check(settings(table, tmp_path, probes=wide))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"label": "grade"}, "has no column grade; have file, label, patient_id"),
        ({"group": "label"}, "fewer than split.folds=4"),
        ({"folder": "/nowhere"}, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused(table, tmp_path, images, words):
    config = settings(table, tmp_path, images={"table": table, **images})
    with pytest.raises(InputError, match=words):
        select_backbone.check(config)
        select_backbone.run(config)
