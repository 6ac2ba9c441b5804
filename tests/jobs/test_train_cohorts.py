"""The training job on cohorts as laboratories have them: ids, labels, folds."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.jobs import train
from mshisto_ray.mil.head import load_head
from mshisto_ray.prediction.bags import make_bags
from mshisto_ray.store.cohort import read_cohort

NUM = 24
HEADER = ("path", "slide_id", "patient_id", "label", "fold")
QUICK = {
    "pooling": {"name": "embedding_mean"},
    "hidden": [4],
    "epochs": 1,
    "runtime": {"cache": {"max_gib": 0}},
}


@pytest.fixture
def embeddings(make_embeddings):
    rng = np.random.default_rng(0)
    values = {f"s{i}": {0.5: rng.normal(size=(4, 3))} for i in range(NUM)}
    return make_embeddings(values)


def write(folder, header=HEADER, **columns):
    """Slides of 12 patients, two labels; ``columns``: cells by the slide's number."""
    made = {
        "path": [f"{i}.svs" for i in range(NUM)],
        "slide_id": [f"s{i}" for i in range(NUM)],
        "patient_id": [f"P{i // 2}" for i in range(NUM)],
        "label": ["neg" if i // 2 % 2 else "pos" for i in range(NUM)],
        "fold": [str(i // 2 % 3) for i in range(NUM)],
    }
    made |= {key: [cell(i) for i in range(NUM)] for key, cell in columns.items()}
    rows = zip(*(made[name] for name in HEADER), strict=True)
    path = folder / "cohort.csv"
    path.write_text("\n".join([",".join(header), *map(",".join, rows)]) + "\n")
    return path


def run(folder, cohort, capsys, **keys):
    raw = {"embeddings": str(folder / "embeddings"), "cohort": str(cohort), **QUICK}
    given = config.validate(train.TrainJobConfig, raw | {"out": folder / "out"} | keys)
    train.check(given)
    train.run(given)
    predictions = pq.read_table(folder / "out" / "result" / "predictions.parquet")
    folds = pq.read_table(folder / "out" / "folds.parquet").to_pylist()
    return capsys.readouterr().out, predictions.to_pylist(), folds


def parts(folds):
    """Patients of each part of each fold."""
    found = {}
    for row in folds:
        found.setdefault((row["fold"], row["part"]), set()).add(row["patient_id"])
    return found


def test_one_line_says_what_is_trained_on(embeddings, tmp_path, capsys):
    said, *_ = run(tmp_path, write(tmp_path), capsys)
    line = "train: 24 slides, 12 patients; 'neg' 12, 'pos' 12; folds given in column "
    assert line + "'fold': 3 folds, 0, 1, 2\n" in said
    path = write(tmp_path, (*HEADER[:4], "other"))
    split = {"folds": 2, "seed": 5, "repeats": 2}
    said, *_ = run(tmp_path, path, capsys, split=split, out=tmp_path / "drawn")
    assert "; 2 folds drawn with split.seed=5, 2 times\n" in said


@pytest.mark.parametrize("name", ["Patient_ID", "PATIENT_ID"])
def test_patients_do_not_part_whatever_the_case_of_the_column(
    embeddings, tmp_path, capsys, name
):
    path = write(tmp_path, ("Path", "SLIDE_ID", name, "Label", "Fold"))
    said, _, folds = run(tmp_path, path, capsys)
    assert "24 slides, 12 patients" in said and "folds given in column 'fold'" in said
    for fold in range(3):
        found = parts(folds)
        assert not found[fold, "train"] & found[fold, "test"]
        assert not found[fold, "train"] & found[fold, "validation"]


def test_another_name_of_the_patient_is_refused_and_mapped(
    embeddings, tmp_path, capsys
):
    path = write(tmp_path, ("path", "slide_id", "case_id", "label", "fold"))
    with pytest.raises(InputError, match=r"columns\.patient_id=case_id"):
        run(tmp_path, path, capsys)
    said, *_ = run(tmp_path, path, capsys, columns={"patient_id": "case_id"})
    assert "24 slides, 12 patients" in said


def test_the_mapping_is_in_no_recipe(embeddings, tmp_path, capsys):
    run(tmp_path, write(tmp_path), capsys)
    path = write(tmp_path, ("path", "slide_id", "case_id", "label", "fold"))
    said, *_ = run(tmp_path, path, capsys, columns={"patient_id": "case_id"})
    assert "is already done" in said


def test_a_given_split_trains_validates_and_tests_as_given(
    embeddings, tmp_path, capsys
):
    words = ("train", "train", "val", "test")
    path = write(tmp_path, fold=lambda i: words[i // 4 % 4])
    said, predictions, folds = run(tmp_path, path, capsys)
    assert "; split given in column 'fold': train 16, validation 4, test 4\n" in said
    wanted = {
        p: {f"P{i // 2}" for i in range(NUM) if words[i // 4 % 4] == w}
        for p, w in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    assert parts(folds) == {(0, part): names for part, names in wanted.items()}
    assert {row["patient_id"] for row in predictions} == wanted["test"]
    inner = pq.read_table(tmp_path / "out" / "result" / "validation.parquet")
    assert set(inner["patient_id"].to_pylist()) == wanted["validation"]
    assert "train: 1/1 models" in said


def test_a_head_of_a_given_split_predicts_no_patient_it_has_seen(
    embeddings, tmp_path, capsys
):
    words = ("train", "train", "val", "test")
    path = write(tmp_path, fold=lambda i: words[i // 4 % 4])
    run(tmp_path, path, capsys)
    head = load_head(tmp_path / "out" / "result" / "head")
    bags, notes = make_bags(head, read_cohort(path, False))
    assert [bag.name for bag in bags] == ["s12", "s13", "s14", "s15"]
    assert "20 slides left out, of patients in the train or validation" in notes[0]
    assert head.models_for("someone new") == [0] and head.models_for("P0") == []
    other = write(tmp_path, patient_id=lambda i: f"p{i // 2}")
    with pytest.raises(InputError, match="here and in the head's training: 'P0' and"):
        make_bags(head, read_cohort(other, False))


def test_twelve_folds_keep_their_numbers(embeddings, tmp_path, capsys):
    path = write(tmp_path, fold=lambda i: str(i // 2 + 1))
    _, predictions, folds = run(tmp_path, path, capsys)
    wanted = {f"P{p}": p + 1 for p in range(12)}
    assert {row["patient_id"]: row["fold"] for row in predictions} == wanted
    assert all(row["fold"] == wanted[row["patient_id"]]
               for row in folds if row["part"] == "test")  # fmt: skip
    head = load_head(tmp_path / "out" / "result" / "head")
    assert {p: f[0] for p, f in head.folds.items()} == wanted


@pytest.mark.parametrize("word", ["NA", "nan", "None", "N/A", "NULL"])
def test_missing_labels_are_left_out_and_counted(embeddings, tmp_path, capsys, word):
    path = write(tmp_path, label=lambda i: [word, "0", "1", "0.0", "1.0", "0"][i % 6])
    said, predictions, _ = run(tmp_path, path, capsys)
    assert "20 slides, 12 patients; '0' 12, '1' 8;" in said
    assert f"column 'label': 4 rows read as missing ({word!r} in 4)" in said
    assert {row["target"] for row in predictions} == {"0", "1"}


def test_a_class_that_may_be_none_is_said(embeddings, tmp_path, capsys):
    path = write(tmp_path, label=lambda i: ["unknown", "neg", "pos"][i // 2 % 3])
    split = {"column": None, "folds": 2}
    said, *_ = run(tmp_path, path, capsys, split=split)
    assert "warning: 'unknown' is a class and may stand for a missing label" in said
    target = {"classes": ["neg", "pos"], "others": "leave_out"}
    said, *_ = run(
        tmp_path, path, capsys, target=target, split=split, out=tmp_path / "two"
    )
    assert "'neg' 8, 'pos' 8" in said and "warning: 'unknown'" not in said


def test_labels_and_ids_in_two_spellings_are_refused(embeddings, tmp_path, capsys):
    path = write(tmp_path, label=lambda i: ["NEG", "neg", "pos"][i % 3])
    with pytest.raises(InputError, match="column 'label': 'NEG' and 'neg' differ only"):
        run(tmp_path, path, capsys)
    path = write(tmp_path, patient_id=lambda i: ["P1", "p01"][i % 2])
    with pytest.raises(InputError, match="patient_id: 'P1' and 'p01' differ only"):
        run(tmp_path, path, capsys)
    path = write(tmp_path)
    target = {"column": "Label", "classes": ["neg", "Pos"]}
    with pytest.raises(InputError, match=r"'Pos' does not occur.*have neg, pos"):
        run(tmp_path, path, capsys, target=target)
    path = write(tmp_path, label=lambda i: ["none", "mild", "severe"][i % 3])
    target = {"classes": ["none", "mild", "severe"]}
    with pytest.raises(InputError, match="none is read as a missing value"):
        run(tmp_path, path, capsys, target=target)


def test_a_split_in_a_column_of_another_name_is_not_passed_over(
    embeddings, tmp_path, capsys
):
    words = ("train", "train", "val", "test")
    header = (*HEADER[:4], "split")
    path = write(tmp_path, header, fold=lambda i: words[i // 4 % 4])
    with pytest.raises(InputError, match=r"give split\.column=split to use it"):
        run(tmp_path, path, capsys)
    said, *_ = run(tmp_path, path, capsys, columns={"fold": "split"})
    assert "split given in column 'fold': train 16, validation 4, test 4" in said
    said, *_ = run(
        tmp_path, path, capsys, split={"column": None, "folds": 2}, out=tmp_path / "b"
    )
    assert "2 folds drawn" in said


def write_bags(path, **columns):
    made = {
        "Bag": [f"b{i}" for i in range(NUM)],
        "features": np.random.default_rng(0).normal(size=(NUM, 3)).tolist(),
        "Label": [i // 2 % 2 for i in range(NUM)],
    }
    pq.write_table(pa.table(made | columns), path)


def run_bags(folder, capsys, **keys):
    raw = {"bags": folder / "bags.parquet", "out": folder / "out", **QUICK, **keys}
    given = config.validate(train.TrainJobConfig, raw)
    train.check(given)
    train.run(given)
    return capsys.readouterr().out


def test_bag_tables_have_the_same_rules(tmp_path, capsys):
    patients = [f"P{i // 2}" for i in range(NUM)]
    write_bags(tmp_path / "bags.parquet", Case_ID=patients)
    with pytest.raises(InputError, match=r"columns\.patient_id=Case_ID"):
        run_bags(tmp_path, capsys)
    said = run_bags(tmp_path, capsys, columns={"patient_id": "case_id"})
    assert "24 bags, 12 patients; '0' 12, '1' 12; 5 folds drawn" in said
    write_bags(tmp_path / "bags.parquet", PATIENT_ID=["NA", "nan", *patients[2:]])
    said = run_bags(tmp_path, capsys, out=tmp_path / "own")
    assert "24 bags, 13 patients" in said
    assert "2 of 24 bags have no patient_id: each is its own patient" in said
    write_bags(tmp_path / "bags.parquet", patient_id=["p1", *patients[1:]])
    with pytest.raises(InputError, match="patient_id: 'P1' and 'p1' differ only"):
        run_bags(tmp_path, capsys)
    split = [("train", "train", "val", "test")[i // 4 % 4] for i in range(NUM)]
    write_bags(tmp_path / "bags.parquet", split=split)
    with pytest.raises(InputError, match=r"give split\.column=split"):
        run_bags(tmp_path, capsys)
    keys = {"split": {"column": "split"}, "out": tmp_path / "split"}
    said = run_bags(tmp_path, capsys, **keys)
    assert "split given in column 'split': train 16, validation 4, test 4" in said


def test_metrics_of_a_given_split_are_those_of_its_test(embeddings, tmp_path, capsys):
    path = write(tmp_path, fold=lambda i: "train" if i < 16 else "test")
    _, predictions, _ = run(tmp_path, path, capsys)
    metrics = json.loads((tmp_path / "out" / "result" / "metrics.json").read_text())
    hits = [row["target"] == row["predicted"] for row in predictions]
    assert len(hits) == 8
    assert metrics["test_accuracy_mean"] == pytest.approx(np.mean(hits))
