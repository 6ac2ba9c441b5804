"""Tan's rows of the given embeddings, also on the annotated area."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from mshisto_ray.config import InputError
from mshisto_ray.jobs import reproduce
from mshisto_ray.learning.comparison import compare
from mshisto_ray.store.learned_labels import record_patients
from mshisto_ray.studies import _study, tan2023
from mshisto_ray.studies._study import UnitResult
from mshisto_ray.studies._tan2023_cost import core_hours, encoder_parameters


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


def three_scales(make_embeddings, name="shared", fold=None):
    """Eight slides of two classes in the embeddings ``name``; returns the data."""
    rng = np.random.default_rng(0)
    slides, rows = {}, ["path,label,fold"]
    for i in range(8):
        sizes = {0.5: 16, 1.0: 8, 2.0: 4}
        slides[f"s{i}"] = {m: rng.normal(3 * (i % 2), 1, (n, 3))
                           for m, n in sizes.items()}  # fmt: skip
        given = ("train" if i < 4 else "test") if fold == "split" else i // 4
        rows.append(f"s{i}.svs,{'ab'[i % 2]},{given}")
    made = make_embeddings(slides, name)
    data = made.parent
    (data / "cohort.csv").write_text("\n".join(rows) + "\n")
    return data


SMALL = {"repeats": 1, "epochs": 1, "lr": 0.05, "bags": 3, "bag_size": 4, "width": 8,
         "heads": 2, "head_dim": 4}  # fmt: skip


def test_tan_trains_as_it_is_given(make_embeddings):
    """Keys that are not set are in no recipe: units made before stay what they are."""
    data = three_scales(make_embeddings)
    given = {**SMALL, "rows": ("shared_msa",), "levels": (0,), "folds": 2}
    plain = tan2023.build(data, **given)
    study = tan2023.build(
        data, **given, together=True, optimiser="adam", slides_per_step=2, components=2
    )
    (unit,), (before,) = study.units(), plain.units()
    assert "reduction" not in before.recipe and before.recipe["batch_size"] == 3
    assert unit.recipe["reduction"] == {"name": "pca", "dim": 2}
    assert unit.recipe["optimiser"]["name"] == "adam"
    assert unit.recipe["batch_size"] == 6
    text = study.table({unit.name: unit.run()})
    assert "on 2 principal components of each scale's tiles; Adam, lr 0.05, " in text
    assert "A step holds all random bags of 2 slides." in text
    assert "SGD, lr 0.05, momentum 0.9" in plain.table({})


def test_tan_attends_over_all_scales_and_takes_rows_and_levels(make_embeddings):
    data = three_scales(make_embeddings)
    (cost,) = {unit.core_hours for unit in tan2023.build(
        data, rows=("shared_msa_all",), **SMALL).units()}  # fmt: skip
    study = tan2023.build(
        data, rows=("shared", "shared_msa_all"), levels=(0,), folds=2, **SMALL
    )
    units = study.units()
    names = ["ms-cl-1+0.5-0", "ms-cl-msa-all-scales-2+1+0.5-0"]
    assert [unit.name for unit in units] == names and cost > 0
    assert units[1].recipe["combine"] == {
        "name": "cross_scale", "width": 8, "heads": 2, "head_dim": 4,
    }  # fmt: skip
    text = study.table({unit.name: unit.run() for unit in units})
    header = "| whole slides | Level (1+0) | Level (2+1+0) | encoders, parameters |"
    assert header in text and "single scale" not in text
    assert "| MS + CL + MSA, all scales, accuracy |  | " in text
    with pytest.raises(InputError, match=r"study.levels: \[3\] are not all of 0 to 2"):
        tan2023.build(data, levels=(3,))


def test_tan_takes_steps_of_one_slide_and_counts_repeats_above_chance(make_embeddings):
    data = three_scales(make_embeddings)
    keys = SMALL | {"rows": ("shared_msa",), "levels": (0,), "bags": 20, "folds": 2}
    (plain,) = tan2023.build(data, **keys).units()
    (unit,) = tan2023.build(data, together=True, **keys).units()
    assert unit.recipe["vote"] == plain.recipe["vote"] | {"together": True}
    # Seven own tiles are combined once an epoch, not in 20 bags of four.
    assert unit.core_hours == pytest.approx(plain.core_hours * 7 / 80)

    study = tan2023.build(data, together=True, **keys | {"repeats": 2, "epochs": 20})
    done = {unit.name: unit.run() for unit in study.units()}
    text = study.table(done)
    assert "| MS + CL + MSA, repeats above chance | 2 of 2 (100%) |" in text
    assert "| MS + CL + MSA, models trained | 100% |" in text
    assert "A step holds all random bags of one slide." in text
    other = done["ms-cl-msa-1+0.5-0"].predictions
    turned = dataclasses.replace(other, probabilities=other.probabilities[:, ::-1])
    done["ms-cl-msa-1+0.5-1"] = UnitResult(turned, {})
    assert ", repeats above chance | 1 of 2 (50%) |" in study.table(done)


def test_tan_takes_given_folds_and_a_given_split(make_embeddings):
    data = three_scales(make_embeddings)
    keys = SMALL | {"rows": ("shared",), "levels": (1,)}
    drawn = tan2023.build(data, **keys).units()[0]
    (unit,) = tan2023.build(data, split="given", **keys).units()
    assert unit.recipe["labels"] != drawn.recipe["labels"]
    found = unit.run().predictions
    folds = dict(zip(found.bag, found.fold, strict=True))
    assert folds == {f"s{i}": i // 4 for i in range(8)}
    three_scales(make_embeddings, fold="split")
    (unit,) = tan2023.build(data, split="given", **keys).units()
    assert sorted(unit.run().predictions.bag) == ["s4", "s5", "s6", "s7"]
    with pytest.raises(InputError, match="per_fold takes numbered folds"):
        tan2023.build(data, split="per_fold", **keys)
    (data / "cohort.csv").write_text("path,label\ns0.svs,a\n")
    with pytest.raises(InputError, match="has no column fold"):
        tan2023.build(data, split="given", **keys)


def test_tan_tests_no_patient_whose_label_an_encoder_learned(make_embeddings, tmp_path):
    data = three_scales(make_embeddings, fold="split")
    manifest = data / "shared" / "manifest.json"
    content = json.loads(manifest.read_text())
    part = {"name": "checkpoint", "path": str(tmp_path / "trained" / "encoder")}
    manifest.write_text(json.dumps(content | {"recorded": {"encoder": part}}))
    keys = SMALL | {"rows": ("shared",), "levels": (1,)}

    def learn(*patients):
        (tmp_path / "trained").mkdir(exist_ok=True)
        recorded = {"recorded": record_patients(patients, "random")}
        (tmp_path / "trained" / "manifest.json").write_text(json.dumps(recorded))

    assert tan2023.build(data, **keys).units()  # not known: trained elsewhere
    learn("s0", "s1", "s2", "s3")
    assert tan2023.build(data, split="given", **keys).units()
    said = r"labels of 4 of 8 patients \(s0, s1, s2, \.\.\.\)"
    with pytest.raises(InputError, match=said):
        tan2023.build(data, **keys)
    learn("s0", "s7")
    with pytest.raises(InputError, match=r"labels of 1 of 4 patients \(s7\)"):
        tan2023.build(data, split="given", **keys)


def test_tan_tests_each_fold_with_the_encoder_of_that_fold(make_embeddings):
    three_scales(make_embeddings, "fold_0/shared")
    data = three_scales(make_embeddings, "fold_1/shared").parent
    (data / "cohort.csv").write_text((data / "fold_1" / "cohort.csv").read_text())
    keys = SMALL | {"rows": ("shared",), "levels": (0,)}
    study = tan2023.build(data, split="per_fold", **keys)
    units = study.units()
    assert [u.name for u in units] == ["ms-cl-1+0.5-0-fold0", "ms-cl-1+0.5-0-fold1"]
    done = {unit.name: unit.run() for unit in units}
    for fold, result in enumerate(done.values()):
        slides = [f"s{i}" for i in range(4 * fold, 4 * fold + 4)]
        assert sorted(result.predictions.bag) == slides
    both = _study.cell(_study.measure(list(done.values()))["accuracy"])
    assert f"| MS + CL, accuracy | {both} |" in study.table(done)
    assert "[1 of 2]" in study.table(dict([*done.items()][:1]))


def test_an_area_without_test_slides_is_an_empty_cell(make_embeddings, write_tiles):
    data = three_scales(make_embeddings, "imagenet", fold="split")
    marks = {f"s{i}": {(0.5, r, 0): "tumour" if i < 4 else None for r in range(16)}
             for i in range(8)}  # fmt: skip
    write_tiles(data / "tiles", marks)
    keys = SMALL | {"rows": ("single",), "levels": (0,), "split": "given"}
    study = tan2023.build(data, annotation="tumour", **keys)
    (unit,) = study.units()
    result = unit.run()
    assert result.area is None and len(result.predictions) == 4
    text = study.table({unit.name: result})
    assert "| single scale, accuracy | no annotated tiles (n = 0) |" in text


class Embedded:
    """Embeddings of an encoder in a folder."""

    def __init__(self, folder, digest):
        self.encoder, self.dim, self.slide_ids = {"digest": digest}, 10, ["a"] * 4
        part = {"name": "checkpoint", "path": str(folder)}
        self.manifest = type("Manifest", (), {"recorded": {"encoder": part}})()


def test_encoders_are_counted_once_with_their_heads(tmp_path):
    for name, size in (("one", 5), ("two", 7)):
        (tmp_path / name).mkdir()
        weights = {"w": np.zeros((size, 2)), "bn.running_mean": np.zeros(9)}
        safetensors.numpy.save_file(weights, tmp_path / name / "encoder.safetensors")
    head = {"w": np.zeros(3)}
    safetensors.numpy.save_file(head, tmp_path / "one" / "projection.safetensors")
    one, two = (Embedded(tmp_path / name, name) for name in ("one", "two"))
    assert encoder_parameters([one, one]) == 13
    assert encoder_parameters([one, two]) == 27
    assert np.isnan(encoder_parameters([one, Embedded(tmp_path / "gone", "gone")]))


def test_the_cost_counts_products_of_tiles_and_their_children(tmp_path):
    one = Embedded(tmp_path, "one")
    settings = {"folds": 2, "epochs": 3, "bags": 5, "bag_size": 7, "together": False,
                "width": 6, "heads": 2, "head_dim": 4}  # fmt: skip
    coarse = 10 * 6 + 6 * 8 + 8 * 6 + 6 * 10
    child = 10 * 6 + 2 * 6 * 8
    tile = 10 + 16 * 10 + coarse + 16 * child
    products = 3 * tile * 2 * 3 * 5 * 7 * 2
    found = core_hours([one, one], (2.0, 0.5), settings, True, 2)
    assert found == pytest.approx(products / 3e10 / 3600)
    read = core_hours([one, one], (2.0, 0.5), settings, False, 2)
    assert read == pytest.approx(3 * 170 * 420 / 3e10 / 3600)
