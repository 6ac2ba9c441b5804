"""RNA of TCGA on small cohorts with a planted answer."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.jobs import reproduce
from mshisto_ray.studies import tcga_rna
from mshisto_ray.studies._tcga_cohort import read_tcga

NUM, GENES = 200, 20
METRICS = ("c_index", "uno_c", "auc", "brier", "brier_kaplan_meier")
TASKS = ("survival", "mutations", "age", "histology", "grade")


def rows():
    """A row a slide: every second patient has two."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(NUM, GENES)) * 3
    found = []
    for number, row in enumerate(values):
        cells = {
            "patient_id": f"p{number}",
            "site": f"s{number % 10}",
            "age": "" if number == 5 else f"{60 + 5 * row[0]:.1f}",
            "months": f"{rng.exponential(np.exp(-row[2] / 2)) * 20:.2f}",
            "event": f"{int(number % 3 > 0)}.0",
            "oncotree_code": ("IDC", "ILC")[int(row[1] > 0)],
            "TP53_mut": str(int(row[3] > 0)),
            "RB1_mut": str(int(rng.random() < 0.5)),
            "RARE_mut": str(int(number < 4)),
        }
        for slide in range(1 + number % 2):
            found.append({"slide_id": f"{number}-{slide}", **cells})
    return values, found


def write(folder, cancer="kirc", change=None, drop=(), rna=True):
    """A cohort and its expressions; ``change``: cells of the first patient."""
    values, found = rows()
    for row in found:
        if row["patient_id"] == "p0":
            row.update(change or {})
    names = [name for name in found[0] if name not in drop]
    with (folder / f"cohort_{cancer}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    if rna:
        table = {"bag": [f"p{n}" for n in range(NUM)], "features": values.tolist()}
        pq.write_table(pa.table(table), folder / f"rna_{cancer}.parquet")
    return folder


@pytest.fixture
def few_points(monkeypatch):
    two = {n: {"reduction": {"name": "pca", "dim": d}} for n, d in (("4", 4), ("8", 8))}
    monkeypatch.setattr(tcga_rna, "_POINTS", two)
    monkeypatch.setattr(tcga_rna, "_EPOCHS", {})
    return two


def test_units_and_table(tmp_path, few_points, run_unit):
    study = tcga_rna.build(write(tmp_path))
    units = {unit.name: unit for unit in study.units()}
    expected = {f"kirc-{t}-{s}" for t in TASKS[:4] for s in ("patients", "sites")}
    assert set(units) == expected
    assert all("survival" in name for name in list(units)[:2])
    names = "kirc-survival-sites", "kirc-mutations-sites"
    done = {name: run_unit(units[name]) for name in names}
    survival, mutations = done.values()
    # Who has lost all labels is left out.
    assert len(survival.predictions) == NUM > len(mutations.predictions) > 190
    assert mutations.predictions.classes == ("TP53_mut", "RB1_mut")
    pairs = {(int(p[1:]) % 10, f) for p, f in zip(survival.predictions.patient_id,
             survival.predictions.fold, strict=True)}  # fmt: skip
    assert len(pairs) == 10  # a site is in one fold
    assert sum(survival.extras[f"chosen {name}"] for name in few_points) == 5
    blank = np.isnan(mutations.predictions.target.astype(float))
    assert 0.03 < blank.mean() < 0.2
    lines = study.table(done).splitlines()
    assert lines[2].startswith("| kirc | survival | 200 | c_index |  | .")
    assert "| kirc | age | 199 |  |  |  |  |  |" in lines
    assert "| kirc | grade | 0 |  |  |  |  |  |" in lines
    assert lines[-1] == "Empty: fewer than two grades of 50 patients (kirc grade)."


def test_cancers_are_those_of_the_folder_or_the_given_ones(tmp_path):
    write(tmp_path, "stad", rna=False)
    write(tmp_path, "kirc", drop=("site", "months", "oncotree_code"))
    study = tcga_rna.build(tmp_path)
    names = [unit.name for unit in study.units()]
    assert names == ["kirc-mutations-patients", "kirc-age-patients"]
    bags = read_tcga(tmp_path, "kirc").bags()
    assert bags["grade"].null_count == bags.num_rows == 200
    table = study.table({})
    assert table.index("| kirc |") < table.index("| stad |")
    assert "| stad | survival | 200 |  |  |  |  |  |" in table
    assert "Empty: 0 events (kirc survival); no column site (kirc mutations by" in table
    assert "no rna_stad.parquet (stad survival, stad mutations, stad age" in table
    assert tcga_rna.build(tmp_path, cancers=("stad",)).units() == []


def test_too_few_sites_are_an_empty_column(tmp_path):
    _, found = rows()
    for row in found:
        row["site"] = "s1" if row["site"] == "s1" else "s0"
    with (write(tmp_path) / "cohort_kirc.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    study = tcga_rna.build(tmp_path)
    assert all(unit.name.endswith("-patients") for unit in study.units())
    assert "2 values of site for 5 folds (kirc survival by sites, kirc" in study.table(
        {}
    )


@pytest.mark.parametrize(
    ("change", "drop", "said"),
    [
        ({"event": "dead"}, (), r"kirc, survival: event: 1 of 200 values are neither"),
        ({"months": "-3"}, (), r"kirc, survival: months: 1 times are negative: p0"),
        ({"TP53_mut": "yes"}, (), r"kirc, mutations: TP53_mut: 1 of \d+ values"),
        ({"age": "old"}, (), r"kirc, age: age: 1 of \d+ values are not numbers"),
        ({}, ("patient_id",), r"cohort_kirc.csv: no column patient_id"),
        ({"patient_id": "p1"}, (), r"patient 'p1' has two values in column 'site'"),
    ],
)
def test_bad_cells_are_one_line(tmp_path, change, drop, said):
    write(tmp_path, change=change, drop=drop)
    with pytest.raises(InputError, match=said) as caught:
        tcga_rna.build(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"bag": ["p0", "x9"], "features": [[1.0], [2.0]]},
            r"1 of 2 patients have no row",
        ),
        ({"bag": ["p0", "p0"], "features": [[1.0], [2.0]]}, r"1 patients have several"),
        ({"bag": ["p0"], "features": [[float("nan")]]}, r"not finite in 1 bags"),
        ({"gene": ["p0"]}, r"no column bag, features"),
    ],
)
def test_bad_expressions_are_one_line(tmp_path, columns, said):
    write(tmp_path)
    pq.write_table(pa.table(columns), tmp_path / "rna_kirc.parquet")
    with pytest.raises(InputError, match=said):
        tcga_rna.build(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no cohort_luad\.csv in"):
        tcga_rna.build(tmp_path, cancers=("luad",))
    with pytest.raises(InputError, match=r"no cohort_<cancer>\.csv in"):
        tcga_rna.build(tmp_path)


def test_a_unit_has_the_report_and_the_runs_of_a_sweep(
    tmp_path, few_points, make_study_config
):
    out = tmp_path / "out"
    given = make_study_config(write(tmp_path), out, name="tcga_rna")
    config = given.model_copy(update={"share": "1/8"})
    reproduce.run(config)
    folder = out / "sweeps" / "kirc-survival-patients"
    page = (folder / "report.html").read_text()
    assert "Uno&#39;s C" in page or "Uno's C" in page
    assert len(list((folder / "configs").iterdir())) == len(few_points)
    assert (folder / "best" / "model.json").is_file()
    store = config.runtime.open_store(out)
    runs = store.client.search_runs([store.experiment_id])
    of_parent = "mlflow.parentRunId"
    children = [run for run in runs if of_parent in run.data.tags]
    (parent,) = [run for run in runs if of_parent not in run.data.tags]
    assert parent.data.metrics["configs"] == len(children) == len(few_points)
    for run in children:
        named = {f"test_{name}" for name in METRICS} | {"val_c_index"}
        assert named <= set(run.data.metrics)
        assert run.data.metrics["test_brier"] < 0.3
    table = (out / "table.md").read_text()
    assert "| kirc | patients | ." in table and "integrated Brier score" in table
    reproduce.run(config)  # a finished unit is not trained again
