import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.input.bags import read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.learned_labels import record_patients

NO_CACHE = CacheConfig(max_gib=0)
COHORT = """path,slide_id,patient_id,label,fold,stage
a.svs,s0,p0,benign,x,1
b.svs,s1,p0,benign,x,2
c.svs,s2,p1,malignant,y,10
d.svs,s3,p2,,y,9
e.svs,s4,p3,malignant,x,9
"""


@pytest.fixture
def embeddings(make_embeddings):
    rng = np.random.default_rng(0)
    sizes = {"s0": (4, 2), "s1": (3, 1), "s2": (5, 2), "s3": (2, 1)}  # s4 has failed
    return make_embeddings(
        {
            slide: {0.5: rng.normal(size=(n, 3)), 1.0: rng.normal(size=(m, 3))}
            for slide, (n, m) in sizes.items()
        }
    )


def given(embeddings, tmp_path, text=COHORT, **keys):
    path = tmp_path / "cohort.csv"
    path.write_text(text)
    return InputConfig(embeddings=embeddings, cohort=path, **keys)


def test_a_bag_per_labelled_slide(embeddings, tmp_path):
    bags = read_bags(given(embeddings, tmp_path), TargetConfig(), "fold", NO_CACHE)
    assert bags.names == bags.slide_ids == ("s0", "s1", "s2", "s4")
    assert bags.patient_ids == ("p0", "p0", "p1", "p3")
    assert bags.classes == ("benign", "malignant")
    assert bags.targets.tolist() == [0, 0, 1, 1]
    assert bags.folds == ("x", "x", "y", "x")
    assert bags.sizes.tolist() == [4, 3, 5, 0]
    assert bags.scale == 0.5
    assert [part.shape for part in bags.read(2)] == [(5, 3)]
    assert [note for note in bags.notes if "Parquet" not in note] == [
        "1 of 5 slides left out, no 'label': s3",
        "1 of 4 slides left out, no complete embeddings: s4",
    ]


def test_a_bag_per_patient_holds_all_its_slides(embeddings, tmp_path):
    source = given(embeddings, tmp_path, unit="patient")
    bags = read_bags(source, TargetConfig(), None, NO_CACHE)
    assert bags.names == bags.patient_ids == ("p0", "p1", "p3")
    assert bags.slide_ids == (None, None, None) and bags.folds is None
    assert bags.sizes.tolist() == [7, 5, 0]
    assert [part.shape for part in bags.read(0)] == [(4, 3), (3, 3)]


def test_labels_that_the_encoder_learned_are_warned_of(embeddings, tmp_path):
    manifest = embeddings / "manifest.json"
    part = {"name": "checkpoint", "path": str(tmp_path / "trained" / "encoder")}
    content = json.loads(manifest.read_text()) | {"recorded": {"encoder": part}}
    manifest.write_text(json.dumps(content))
    (tmp_path / "trained").mkdir()
    for known, lines in ((["p1", "other"], 1), (["other"], 0)):
        recorded = {"recorded": record_patients(known, "random")}
        (tmp_path / "trained" / "manifest.json").write_text(json.dumps(recorded))
        source = given(embeddings, tmp_path)
        notes = read_bags(source, TargetConfig(), None, NO_CACHE).notes
        found = [note for note in notes if "learned from the labels" in note]
        assert len(found) == lines
        assert all("of 1 of 4 patients (p1)" in note for note in found)


def test_a_slide_without_tiles_at_the_scale_is_named(embeddings, tmp_path):
    # At 1.0 the only tile of s1 is an ancestor.
    source = given(embeddings, tmp_path, scale=1.0)
    bags = read_bags(source, TargetConfig(), None, NO_CACHE)
    assert bags.sizes.tolist() == [1, 0, 1, 0]
    assert "1 of 4 slides left out, no tile at 1.0 um/px: s1" in bags.notes


def test_without_a_target_every_slide_is_a_bag(embeddings, tmp_path):
    bags = read_bags(given(embeddings, tmp_path), None, None, NO_CACHE)
    assert bags.names == ("s0", "s1", "s2", "s3", "s4")
    assert bags.targets is None and bags.classes == ()


def test_classes_are_in_the_given_order_or_sorted_as_numbers(embeddings, tmp_path):
    source = given(embeddings, tmp_path)

    def classes(**keys):
        bags = read_bags(source, TargetConfig(**keys), None, NO_CACHE)
        return bags.classes, bags.targets.tolist()

    order = ("malignant", "benign")
    assert classes(classes=order) == (order, [1, 1, 0, 0])
    assert classes(column="stage") == (("1", "2", "9", "10"), [0, 1, 3, 2, 2])
    assert classes(column="stage", classes=(10, 9, 2, 1)) == (
        ("10", "9", "2", "1"),
        [3, 2, 0, 1, 1],
    )


def test_labels_outside_the_classes_are_refused_or_left_out(embeddings, tmp_path):
    target = TargetConfig(column="stage", classes=("9", "10"))
    source = given(embeddings, tmp_path)
    with pytest.raises(InputError, match=r"stage: 2 of 5 slides \(s0, s1\) have"):
        read_bags(source, target, None, NO_CACHE)
    target = target.model_copy(update={"others": "leave_out"})
    bags = read_bags(source, target, None, NO_CACHE)
    assert "2 of 5 slides left out, a label not in target.classes: s0, s1" in bags.notes


@pytest.mark.parametrize(
    ("keys", "target", "message"),
    [
        ({"scale": 2.0}, {}, r"scale: 2\.0 is not in .*; have 0\.5, 1\.0"),
        ({}, {"column": "grade"}, "no column 'grade'.*fold, label|label, fold"),
        ({}, {"classes": ("benign", "malignat")}, "'malignat' does not occur.*benign"),
        (
            {"unit": "patient"},
            {"column": "stage"},
            r"1 patients have slides with different labels: 'p0' \(1, 2\)",
        ),
    ],
)
def test_wrong_input_is_refused(embeddings, tmp_path, keys, target, message):
    source = given(embeddings, tmp_path, **keys)
    with pytest.raises(InputError, match=message):
        read_bags(source, TargetConfig(**target), None, NO_CACHE)


def test_a_patient_in_two_folds_is_refused(embeddings, tmp_path):
    text = COHORT.replace("benign,x,2", "benign,y,2")
    source = given(embeddings, tmp_path, text, unit="patient")
    with pytest.raises(InputError, match=r"different folds: 'p0' \(x, y\)"):
        read_bags(source, TargetConfig(), "fold", NO_CACHE)


def test_a_bag_table_with_patients(tmp_path):
    path = tmp_path / "bags.parquet"
    table = {
        "bag": [0, 0, 1, 2, 2],
        "label": [0, 0, 1, 1, 1],
        "patient_id": ["p", "p", "q", "q", "q"],
        "features": np.eye(5).tolist(),
    }
    pq.write_table(pa.table(table), path)
    slides = read_bags(InputConfig(bags=path), TargetConfig(), "fold", NO_CACHE)
    assert slides.names == ("0", "1", "2") and slides.slide_ids == (None,) * 3
    assert slides.patient_ids == ("p", "q", "q") and slides.folds is None
    patients = InputConfig(bags=path, unit="patient")
    merged = read_bags(patients, TargetConfig(), "fold", NO_CACHE)
    assert merged.names == ("p", "q") and merged.sizes.tolist() == [2, 3]
    with pytest.raises(InputError, match="no column 'grade'; have label, patient_id"):
        read_bags(InputConfig(bags=path), TargetConfig(column="grade"), None, NO_CACHE)


def test_identity_changes_with_labels_and_embeddings(embeddings, tmp_path):
    def key(text=COHORT, **keys):
        source = given(embeddings, tmp_path, text, **keys)
        return read_bags(source, TargetConfig(), "fold", NO_CACHE).identity

    assert key() == key()
    changed = COHORT.replace("c.svs,s2,p1,malignant", "c.svs,s2,p1,benign")
    keys = {key(), key(changed), key(scale=1.0), key(unit="patient")}
    keys.add(key(COHORT.replace("p1", "p3")))
    assert len(keys) == 5
    assert key(COHORT.replace(",9\n", ",8\n")) == key()  # not the label's column


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "got none of them"),
        ({"embeddings": "e"}, "got embeddings"),
        ({"embeddings": "e", "cohort": "c", "bags": "b"}, "got bags, cohort"),
        ({"bags": "b", "scale": 0.5}, "a bag table has no scales"),
    ],
)
def test_one_source_has_to_be_given(raw, message):
    with pytest.raises(InputError, match=message):
        config.validate(InputConfig, raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"classes": ["a"]}, "at least two classes, each once"),
        ({"classes": ["a", "b", "a"]}, "at least two classes, each once"),
        ({"columns": "x"}, "'classes' takes column, classes, .*; got 'columns'"),
    ],
)
def test_targets_that_are_not_built_are_refused(raw, message):
    with pytest.raises(InputError, match=message):
        config.validate(TargetConfig, raw)
