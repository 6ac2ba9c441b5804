"""RNA of TCGA on two small cohorts with a planted answer."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.studies import tcga_rna

HEADER = [
    "slide_id", "patient_id", "site", "age", "months", "event", "oncotree_code",
    "TP53_mut", "RB1_mut",
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 20)) * 3
    with (tmp_path / "cohort_brca.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, row in enumerate(values):
            age = "" if number == 5 else 60 + 5 * row[0]
            code = ("IDC", "ILC", "ILC", "MDLC")[int(row[1] > 0) + number % 2]
            months = rng.exponential(np.exp(-row[2] / 2)) * 20
            genes = (int(row[3] > 0), int(rng.random() < 0.5))
            cells = (number % 10, age, months, number % 3 > 0, code, *genes)
            cells = [int(c) if isinstance(c, bool) else c for c in cells]
            for slide in range(1 + number % 2):
                writer.writerow([f"s{number}-{slide}", f"p{number}", *cells])
    table = {
        "bag": [f"p{number}" for number in range(120)],
        "features": pa.array(values.tolist()),
    }
    pq.write_table(pa.table(table), tmp_path / "rna_brca.parquet")
    return tmp_path


def test_units_and_table(data, monkeypatch):
    two = {n: {"reduction": {"name": "pca", "dim": d}} for n, d in (("4", 4), ("8", 8))}
    monkeypatch.setattr(tcga_rna, "_POINTS", two)
    study = tcga_rna.build(data, cancers=("brca",))
    units = {unit.name: unit for unit in study.units()}
    tasks = ("survival", "mutations", "age", "histology")
    assert set(units) == {f"brca-{t}-{s}" for t in tasks for s in ("patients", "sites")}
    done = {n: units[n].run() for n in ("brca-survival-sites", "brca-mutations-sites")}
    survival, mutations = done.values()
    # Who has lost all labels is left out.
    assert len(survival.predictions) == 120 > len(mutations.predictions) > 110
    site = {f"p{number}": number % 10 for number in range(120)}
    pairs = {(site[p], f) for p, f in zip(survival.predictions.patient_id,
             survival.predictions.fold, strict=True)}  # fmt: skip
    assert len(pairs) == 10  # a site is in one fold
    assert sum(survival.extras[f"chosen {name}"] for name in two) == 5
    blank = np.isnan(mutations.predictions.target.astype(float)) | (
        mutations.predictions.target < 0
    )
    assert 0.03 < blank.mean() < 0.2
    table = study.table(done)
    assert table.count("| brca |") == 2 and "c_index" in table


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no cohort_luad\.csv in"):
        tcga_rna.build(tmp_path, cancers=("luad",))
