import numpy as np
import pytest

from mshisto_ray.config import InputError, validate
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.target import TileTargetConfig, read_classified
from mshisto_ray.tile_classification.validation import check_held_out
from mshisto_ray.training.held_out import split_patients

SIDE = 6
LABELS = {"a": "tumour", "b": "normal", "c": "", "d": "normal", "e": "other"}


def annotated(seed):
    """Classes of the fine tiles; only 0.4 of those called edge is annotated."""
    names = np.array([None, "gland", "vessel", "edge"], object)
    drawn = np.random.default_rng(seed).choice(4, SIDE**2, p=[0.4, 0.3, 0.2, 0.1])
    return names[drawn].tolist()


@pytest.fixture
def tiles(stages):
    slides = {name: annotated(seed) for seed, name in enumerate(LABELS)}
    slides["e"] = [None if name == "vessel" else name for name in slides["e"]]
    return TileDirectory(stages.tiles(slides, SIDE, {"a": "p", "c": "p"}))


@pytest.fixture
def cohort(tmp_path):
    rows = [f"{s}.tiff,{s},{'p' if s in 'ac' else s},{v}" for s, v in LABELS.items()]
    path = tmp_path / "cohort.csv"
    path.write_text("\n".join(["path,slide_id,patient_id,label", *rows]))
    return read_cohort(path, check_files=False)


def target(**keys) -> TileTargetConfig:
    return validate(TileTargetConfig, keys)


def found(made):
    """{(slide, mpp, row, col): class}"""
    index, all_tiles = made.index, np.arange(len(made.index))
    places = zip(index.slide(all_tiles), index.scale(all_tiles), index.row(all_tiles),
                 index.col(all_tiles), made.code, strict=True)  # fmt: skip
    return {
        (index.slide_ids[s], index.scales[k], int(r), int(c)): made.classes[code]
        for s, k, r, c, code in places
    }


def wanted(tiles, name_of, scales=(0.5, 1.0)):
    result = {}
    for slide_id in tiles.slides:
        for row in tiles.read(slide_id).to_pylist():
            name = name_of(slide_id, row)
            if row["own"] and row["mpp"] in scales and name is not None:
                result[slide_id, row["mpp"], row["row"], row["col"]] = name
    return result


def test_a_tile_has_the_class_of_its_slide(tiles, cohort):
    made = read_classified(tiles, cohort, target(), None)
    assert made.classes == ("normal", "other", "tumour") and made.by_slide
    assert found(made) == wanted(tiles, lambda s, _: LABELS[s] or None)
    made = read_classified(tiles, cohort, target(classes=["tumour", "normal"]), [1.0])
    assert made.classes == ("tumour", "normal")
    few = {"a": "tumour", "b": "normal", "d": "normal"}
    assert found(made) == wanted(tiles, lambda s, _: few.get(s), (1.0,))
    named = dict(zip(made.index.slide_ids, made.index.label, strict=True))
    assert named == {"a": 0, "b": 1, "d": 1}


@pytest.mark.parametrize("unannotated", ["other", "leave_out"])
def test_a_tile_has_the_class_it_is_annotated_as(tiles, unannotated):
    settings = target(column="annotation", unannotated=unannotated)
    made = read_classified(tiles, None, settings, None)
    bare = "(unannotated)" if unannotated == "other" else None

    def name_of(_, row):
        if row["annotation"] is None:
            return bare
        return row["annotation"] if row["annotated"] >= 0.5 else None

    assert found(made) == wanted(tiles, name_of) and not made.by_slide
    assert set(made.classes) == {"gland", "vessel"} | ({bare} - {None})
    # Of the patients only e has no vessel, so the others' slides count as its class.
    label = [made.classes[code] for code in made.index.label]
    assert label[:4] == ["vessel"] * 4 and label[4] != "vessel"
    low = target(column="annotation", min_annotated=0.4)
    assert "edge" in read_classified(tiles, None, low, None).classes


def test_patients_are_those_of_the_cohort(tiles, cohort):
    made = read_classified(tiles, cohort, target(column="annotation"), None)
    assert made.index.patient.tolist() == [3, 0, 3, 1, 2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"column": "grade"}, "no column 'grade'; columns besides .*: label"),
        ({"classes": ["tumour", "cyst"]}, "only 'tumour' has tiles.*needs two classes"),
        ({"classes": ["tumour", "normal", "cyst"]}, "no tile is of 'cyst'; have 'tum"),
        ({"column": "annotation", "classes": ["x", "y"]}, "no tile has a class"),
    ],
)
def test_targets_without_two_classes_are_refused(tiles, cohort, keys, message):
    with pytest.raises(InputError, match=message):
        read_classified(tiles, cohort, target(**keys), None)


def test_a_column_without_a_cohort_is_refused(tiles):
    with pytest.raises(InputError, match=r"give cohort=TABLE, or target\.column=annot"):
        read_classified(tiles, None, target(), None)


def test_a_patient_of_two_classes_is_refused(tiles, tmp_path):
    path = tmp_path / "torn.csv"
    lines = ["path,slide_id,patient_id,label", "a.tiff,a,p,x", "c.tiff,c,p,y"]
    path.write_text("\n".join([*lines, "b.tiff,b,q,x"]))
    torn = read_cohort(path, check_files=False)
    with pytest.raises(InputError, match=r"1 patients have slides of two.*'p'"):
        read_classified(tiles, torn, target(), None)


def test_another_cohort_is_refused(tiles, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("path,label\nz.tiff,x\n")
    with pytest.raises(InputError, match="none of its slides is in"):
        read_classified(tiles, read_cohort(path, check_files=False), target(), None)


def test_a_class_of_one_patient_cannot_be_held_out(tiles, cohort):
    made = read_classified(tiles, cohort, target(), None)
    parts = [made.part(part) for part in split_patients(made.index, 0.4, 0)]
    with pytest.raises(InputError, match=r"'other' has 1 patient\(s\), all of them tr"):
        check_held_out(*parts)


def test_classes_are_distinct():
    with pytest.raises(InputError, match="at least two classes, each once"):
        target(classes=["a", "a"])
