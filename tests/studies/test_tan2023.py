"""Tan's rows of the given embeddings, also on the annotated area."""

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.jobs import reproduce
from mshisto_ray.learning.comparison import compare
from mshisto_ray.studies import _study, tan2023


def test_tan_runs_every_row_whose_embeddings_are_there(make_embeddings, tmp_path):
    rng = np.random.default_rng(0)
    slides, rows = {}, ["path,label,fold"]
    for i in range(8):
        sizes = {0.5: 12, 1.0: 6}
        slides[f"s{i}"] = {m: rng.normal(3 * (i % 2), 1, (n, 3))
                           for m, n in sizes.items()}  # fmt: skip
        rows.append(f"s{i}.svs,{'ab'[i % 2]},{i // 2}")
    data = make_embeddings(slides, "shared").parent
    (data / "cohort.csv").write_text("\n".join(rows) + "\n")
    study = tan2023.build(
        data, scales=(0.5, 1.0), repeats=1, folds=2, epochs=2, lr=0.05
    )
    units = study.units()
    assert [unit.name for unit in units] == ["ms-cl-1+0.5-0", "ms-cl-msa-1+0.5-0"]
    done = {unit.name: unit.run() for unit in units}
    text = study.table(done)
    assert "| MS + CL + MSA, published accuracy | .6415 |" in text
    assert "| conventional MS, accuracy | no embeddings |" in text
    gain = compare(done["ms-cl-msa-1+0.5-0"].predictions,
                   done["ms-cl-1+0.5-0"].predictions, "accuracy")  # fmt: skip
    row = "| MS + CL + MSA, gain in accuracy on the row above | "
    assert row + _study.cell(gain.difference) in text
    assert "| MS + CL, gain in accuracy on the row above |  |" in text
    for result in done.values():
        assert sorted(result.predictions.bag) == sorted(slides)
        # The study's folds, which change with the repeat, not the cohort's.
        assert set(result.predictions.fold) == {0, 1}


def test_tan_refuses_rows_of_other_slides(make_embeddings):
    slides = {f"s{i}": {0.5: np.zeros((2, 3)), 1.0: np.zeros((2 * (i != "c"), 3))}
              for i in "abc"}  # fmt: skip
    data = make_embeddings(slides, "imagenet").parent
    table = "path,label\nsa.svs,a\nsb.svs,b\nsc.svs,b\n"
    (data / "cohort.csv").write_text(table)
    with pytest.raises(InputError, match=r"1 labelled .* \(sc in imagenet at 1 um"):
        tan2023.build(data, scales=(0.5, 1.0))
    (data / "cohort.csv").write_text(table.replace("sc.svs,b", "sc.svs,"))
    assert tan2023.build(data, scales=(0.5, 1.0), repeats=1).units()


def test_tan_runs_the_pairs_whose_embeddings_are_there(make_embeddings):
    """Also where the finest scale has none."""
    slides = {f"s{i}": {1.0: np.zeros((2, 3)), 2.0: np.zeros((1, 3))} for i in "ab"}
    for mpp in (1.0, 2.0):
        own = {name: {mpp: scales[mpp]} for name, scales in slides.items()}
        data = make_embeddings(own, f"scale_{mpp}").parent
    (data / "cohort.csv").write_text("path,label\nsa.svs,a\nsb.svs,b\n")
    units = tan2023.build(data, repeats=1).units()
    assert [unit.name for unit in units] == ["conventional-ms-2+1-0"]


def test_tan_tests_on_the_annotated_area_too(make_embeddings, write_tiles, tmp_path):
    rng = np.random.default_rng(0)
    slides, marks, rows = {}, {}, ["path,label"]
    for i in range(8):
        slides[f"s{i}"] = {0.5: rng.normal(3 * (i % 2), 1, (12, 3))}
        drawn = {3, 4, 8} if i < 6 else set()
        marks[f"s{i}"] = {
            (0.5, r, 0): "tumour" if r in drawn else None for r in range(12)
        }
        rows.append(f"s{i}.svs,{'ab'[i % 2]}")
    data = make_embeddings(slides, "imagenet").parent
    (data / "cohort.csv").write_text("\n".join(rows) + "\n")
    keys = {"scales": (0.5,), "repeats": 1, "folds": 2, "epochs": 1, "lr": 0.05}
    with pytest.raises(InputError, match="no tiles in"):
        tan2023.build(data, annotation="tumour", **keys)
    write_tiles(data / "tiles", marks)
    with pytest.raises(InputError, match="annotated as 'gland'; have tumour"):
        tan2023.build(data, annotation="gland", **keys)
    study = tan2023.build(data, annotation="tumour", **keys)
    (unit,) = study.units()
    (whole,) = tan2023.build(data, **keys).units()
    assert unit.recipe.keys() - whole.recipe.keys() == {"area"}

    out = tmp_path / "out"
    with reproduce.open_stage(out, "study", {"study": "tan2023"}, {}):
        reproduce._run(study, out)
    found = reproduce._finished_units(out, [unit])[unit.name]
    assert sorted(found.predictions.bag) == sorted(slides)
    assert sorted(found.area.bag) == [f"s{i}" for i in range(6)]
    text = (out / "table.md").read_text()
    assert "| whole slides | Level 0 |" in text
    assert "| annotated area | Level 0 |" in text
    assert "| single scale, published accuracy | .7250 |" in text
