"""The job on drawn images: colour tells the classes apart, a random network less."""

import csv

import numpy as np
import pytest
from fixtures.pages import read_page
from mlflow.tracking import MlflowClient
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import select_backbone
from mshisto_ray.jobs.select_backbone import SelectConfig
from mshisto_ray.tile_classification.image_table import ImagesConfig, read_images
from mshisto_ray.tile_classification.images import as_samples, second_task


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
    page = read_page(tmp_path / "out" / "report.html")
    assert {"question", "dense", "linear", "knn", "cost", "making"} <= set(
        page.sections
    )
    assert "cannot be told apart" in page.text and "no weights" in page.text
    text = (tmp_path / "out" / "summary.md").read_text()
    said = capsys.readouterr().out
    assert text in said and "all encoders, the best first: http" in said
    assert "By dense colours is first" in text and "of these" not in text.lower()
    runs = {run.info.run_name: run for run in runs_of(tmp_path / "out")}
    group = {name: runs[name].data.metrics["dense_group"] for name in encoders}
    assert group["colours"] == 1 and group["random"] in (1, 2)
    assert runs["random"].data.metrics["dense_from_the_best"] <= 0
    assert runs["colours"].data.metrics["bytes_a_tile"] == 42
    assert runs["colours"].data.params["licence"] == "no weights"
    assert "[All encoders" in runs["out"].data.tags["mlflow.note.content"]
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
        ({"folder": "/nowhere"}, "32 of 32 files do not exist"),
    ],
)
def test_what_cannot_be_used_is_refused(table, tmp_path, images, words):
    config = settings(table, tmp_path, images={"table": table, **images})
    with pytest.raises(InputError, match=words):
        select_backbone.check(config)
        select_backbone.run(config)


@pytest.fixture
def sited(table, tmp_path):
    """The images with a site of each patient and a second class."""
    lines = table.read_text().splitlines()
    rows = [f"{lines[0]}\tsite\tside"]
    for i, line in enumerate(lines[1:]):
        side = "" if i < 4 else "lr"[i // 2 % 2]
        rows.append(f"{line}\ts{i // 4 % 2}\t{side}")
    path = tmp_path / "sited.tsv"
    path.write_text("\n".join(rows) + "\n")
    return {"table": path, "folder": table.parent}


def runs_of(out):
    client = MlflowClient(f"sqlite:///{out.parent / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
    return client.search_runs([experiment.experiment_id])


def test_few_tiles_sites_and_a_second_task(sited, tmp_path):
    out = tmp_path / "out"
    images = {**sited, "site": "site", "second_label": "side"}
    encoders = {"colours": {"name": "colour_stats"},
                "median": {"name": "colour_stats", "quantiles": [0.5]}}  # fmt: skip
    config = settings(
        None, out, images=images, encoders=encoders,
        probes={"near": "simpleshot"}, few_shot={"shots": [1, 4], "draws": 2},
    )  # fmt: skip
    select_backbone.check(config)
    select_backbone.run(config)
    text = (out / "summary.md").read_text()
    for title in ("## near", "## Few tiles", "## Sites", "## A second task"):
        assert title in text
    few = text.split("## Few tiles")[1].split("##")[0]
    assert "| encoder | 1 a class | 4 a class |" in few and "2 draws" in few
    sites = text.split("## Sites")[1].split("##")[0]
    (row,) = (line for line in sites.splitlines() if line.startswith("| colours"))
    cells = [cell.split()[0] for cell in row.strip("| ").split(" | ")]
    assert cells[4:] == ["1.000", "1.000", "+0.000"]
    assert "Kendall's tau" in text
    runs = {run.info.run_name: run for run in runs_of(out)}
    assert runs.keys() == {"out", "colours", "median"}
    parent = runs["out"].info.run_id
    for name in encoders:
        assert runs[name].data.tags["mlflow.parentRunId"] == parent
        assert runs[name].data.metrics["near_balanced_accuracy"] == 1
        assert runs[name].data.metrics["near_auroc_of_folds"] == 1


def test_the_second_task_has_the_tiles_that_have_its_class(sited):
    raw = {**sited, "label": "label", "second_label": "side"}
    images = read_images(configs.validate(ImagesConfig, raw))
    values = np.arange(32.0)[:, None]
    samples = second_task(images, as_samples(images, values, "", ""))
    found = samples.read(np.arange(len(samples)))[:, 0].astype(int)
    assert sorted(found) == list(range(4, 32))
    assert [samples.classes[t] for t in samples.target] == [
        "lr"[i // 2 % 2] for i in found
    ]


def test_a_second_task_that_cannot_be_used_is_refused_before_work(sited, tmp_path):
    images = {**sited, "second_label": "file"}
    with pytest.raises(InputError, match=r"class '0\.png'"):
        select_backbone.check(settings(None, tmp_path / "out", images=images))
    images["second_label"] = "side"
    rows = sited["table"].read_text().replace("\tl\n", "\tr\n")
    sited["table"].write_text(rows)
    with pytest.raises(InputError, match="fewer than two classes"):
        select_backbone.check(settings(None, tmp_path / "out", images=images))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"site": "a"}, "of images give images.site"),
        ({"few_shot": {"shots": [0]}}, "few_shot.shots"),
        ({"images": None, "embeddings": {"a": "b"}, "site": "x"}, "give cohort=TABLE"),
    ],
)
def test_wrong_keys_are_refused(table, tmp_path, keys, words):
    with pytest.raises(InputError, match=words):
        settings(table, tmp_path, **keys)
