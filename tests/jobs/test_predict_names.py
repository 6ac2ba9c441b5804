"""Prediction by patient with names that are no file names, and of one class alone."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import embed, export_h5, import_h5, predict, tile, train

SLIDES = ["S23/1", "../../x", "a%2Fb", "-rf", "c,d$e", "plain", "s 7", "Müller"]
PATIENTS = ["S23/1234", "../../../y", "p%", "~q"]
NAMES = ("no/ne", "so:me")


@pytest.fixture(scope="module")
def study(plainly, tmp_path_factory, write_slide):
    """Tiles, embeddings and a head by patient, all with hostile names."""
    folder = tmp_path_factory.mktemp("names") / "deep" / "er"
    folder.mkdir(parents=True)
    rows = ["path;Slide_ID;case_id;Diagnosis"]
    for i, name in enumerate(SLIDES):
        write_slide(folder / f"{i}.tiff", i, size=(700, 700))
        rows.append(f"{i}.tiff;{name};{PATIENTS[i // 2]};{NAMES[i // 2 % 2]}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n", encoding="utf-16")
    columns = {"columns": {"patient_id": "case_id"}}
    cohort = {"cohort": folder / "cohort.csv", **columns}
    with plainly():
        raw = {**cohort, "out": folder / "tiles", "tile_px": 64, "geojson": True}
        tile.run(configs.validate(tile.TileConfig, raw))
        raw = {"tiles": folder / "tiles", "out": folder / "embeddings"}
        raw |= {"encoder": {"name": "colour_stats"}}
        embed.run(configs.validate(embed.EmbedConfig, raw))
    raw = {
        **cohort,
        "embeddings": folder / "embeddings",
        "out": folder / "head",
        "unit": "patient",
        "target": {"column": "diagnosis"},
        "pooling": {"name": "instance_mean"},
        "split": {"folds": 2, "validation": 0},
        "early_stopping": None,
        "epochs": 1,
        "runtime": {"cache": {"max_gib": 0}},
    }
    train.run(configs.validate(train.TrainJobConfig, raw))
    return folder


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def run(study, out, cohort=None, **keys):
    raw = {
        "head": study / "head" / "result" / "head",
        "embeddings": study / "embeddings",
        "cohort": cohort or study / "cohort.csv",
        "columns": {"patient_id": "case_id"},
        "out": out,
        **keys,
    }
    given = configs.validate(predict.PredictConfig, raw)
    predict.check(given)
    predict.run(given)


def test_every_file_of_a_prediction_is_inside_out(plain, study, tmp_path, capsys):
    before = files(study.parent.parent)
    out = tmp_path / "a" / "b" / "out"
    run(study, out, tiles=study / "tiles")
    assert "predict: 8 slides, 4 patients in" in capsys.readouterr().out
    assert files(study.parent.parent) == before
    beside = {path for path in files(out.parent) if path.parts[0] != "out"}
    assert {path.parts[0] for path in beside} == {
        "mlflow.db", "mlflow.lock", "mlartifacts"}  # fmt: skip
    assert {path.parts[:2] for path in files(tmp_path)} == {("a", "b")}
    table = pq.read_table(out / "predictions.parquet").to_pydict()
    assert table["bag"] == PATIENTS and table["target"] == [*NAMES, *NAMES]
    shards = sorted(path.name for path in (out / "shards").iterdir())
    assert shards == ["%2E.%2F..%2F..%2Fy.parquet", "%7Eq.parquet",
                      "S23%2F1234.parquet", "p%25.parquet"]  # fmt: skip
    drawn = {path.name for path in (out / "heatmaps").iterdir()}
    # A heat map, the tiles and GeoJSON of one class of two.
    assert len(drawn) == 3 * len(SLIDES)
    assert "S23%2F1.instance_so%3Ame.png" in drawn
    assert not pq.read_table(out / "failures.parquet").num_rows
    run(study, out, tiles=study / "tiles")
    assert "4 of 4 bags already done" in capsys.readouterr().out


def test_tiles_are_written_and_found_by_every_name(study):
    assert len(list((study / "tiles" / "shards").iterdir())) == len(SLIDES)
    assert len(list((study / "tiles" / "overview").iterdir())) == len(SLIDES)
    assert len(list((study / "tiles" / "geojson").iterdir())) == 2 * len(SLIDES)
    slides = pq.read_table(study / "embeddings" / "slides.parquet").to_pydict()
    assert sorted(slides["slide_id"]) == sorted(SLIDES) and all(slides["complete"])
    outside = files(study.parent.parent) - {
        path.relative_to(study.parent.parent) for path in study.rglob("*")
    }
    assert outside == set()


def test_names_go_through_h5_and_back(plain, study, tmp_path):
    raw = {"embeddings": study / "embeddings", "out": tmp_path / "h5", "mpp": 0.5}
    export_h5.run(configs.validate(export_h5.ExportConfig, raw))
    assert len(list((tmp_path / "h5").glob("*.h5"))) == len(SLIDES)
    raw = {
        "features": tmp_path / "h5",
        "cohort": study / "cohort.csv",
        "columns": {"patient_id": "case_id"},
        "encoder": "colour_stats",
        "mpp": 0.5,
        "tile_px": 64,
        "out": tmp_path / "back",
    }
    import_h5.run(configs.validate(import_h5.ImportConfig, raw))
    slides = pq.read_table(tmp_path / "back" / "slides.parquet").to_pydict()
    assert sorted(slides["slide_id"]) == sorted(SLIDES) and all(slides["complete"])
    assert set(slides["patient_id"]) == set(PATIENTS)


@pytest.mark.parametrize("label", NAMES)
def test_an_external_cohort_of_one_class_has_the_metrics_that_are_defined(
    plain, study, tmp_path, capsys, label
):
    text = (study / "cohort.csv").read_text(encoding="utf-16")
    head, *rows = text.splitlines()
    rows = [row.rpartition(";")[0] + f";{label}" for row in rows]
    rows = [f"{study}/{row}".replace("S23/1234", "new1") for row in rows]
    for i, name in enumerate(PATIENTS[1:], start=2):
        rows = [row.replace(f";{name};", f";new{i};") for row in rows]
    path = tmp_path / "new.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    run(study, tmp_path / "out", path)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    table = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    hits = np.mean([name == label for name in table["predicted"]])
    defined = "recall" if label == NAMES[1] else "specificity"
    for name, found in metrics.items():
        wanted = hits if name in ("accuracy", defined) else None
        assert found["value"] == (wanted if wanted is None else pytest.approx(wanted))
        assert (found["low"] is None) == (wanted is None)
    assert {"accuracy", "recall", "specificity", "auroc", "pr_auc"} <= metrics.keys()
    said = capsys.readouterr().out
    # Those that the head knows under other patients, and all have new ones.
    assert "warning: 8 slides are files that the head was trained on, of other" in said
    absent = NAMES[0] if label == NAMES[1] else NAMES[1]
    assert f"not defined, as none of the 4 labelled bags is of class {absent!r}" in said
    assert "external auroc" not in said and "external accuracy" in said


def test_a_label_in_another_spelling_than_the_heads_is_refused(study, tmp_path):
    text = (study / "cohort.csv").read_text(encoding="utf-16")
    path = tmp_path / "cohort.csv"
    path.write_text(text.replace("no/ne", "NO/NE"))
    with pytest.raises(InputError, match="diagnosis: 'NO/NE' and 'no/ne' differ only"):
        run(study, tmp_path / "out", path)
