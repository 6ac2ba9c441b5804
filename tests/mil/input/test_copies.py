"""One slide under two names, where heads are trained."""

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.input.bags import read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.store.cache import CacheConfig

PATIENTS = {"a": "p", "b": "q", "c": "r", "d": "s"}


def read(folder, patients, max_gib=1.0):
    lines = [f"{s}.svs,{s},{p},{int(s in 'ab')}" for s, p in patients.items()]
    text = "\n".join(["path,slide_id,patient_id,label", *lines]) + "\n"
    (folder / "cohort.csv").write_text(text)
    source = InputConfig(embeddings=folder / "embeddings", cohort=folder / "cohort.csv")
    cache = CacheConfig(dir=folder / "cache", max_gib=max_gib)
    return read_bags(source, TargetConfig(column="label"), None, cache)


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return {slide: {0.5: rng.normal(size=(3, 2))} for slide in PATIENTS}


def test_different_slides_are_no_copies(make_embeddings, values, tmp_path):
    # The first and the last tile alone do not make a copy.
    values["c"] = {0.5: values["a"][0.5] + [[0, 0], [1, 0], [0, 0]]}
    make_embeddings(values)
    assert not any("same content" in note for note in read(tmp_path, PATIENTS).notes)


@pytest.mark.parametrize("max_gib", [1, 0], ids=["mapped", "parquet"])
def test_a_file_under_two_patients_is_refused(
    make_embeddings, values, tmp_path, max_gib
):
    """By its fingerprint, which says so wherever the features lie."""
    values["c"] = values["a"]
    make_embeddings(values)
    with pytest.raises(InputError, match=r"slides 'a', 'c' have .*\('p', 'r'\)"):
        read(tmp_path, PATIENTS, max_gib)
    (note,) = [
        n for n in read(tmp_path, PATIENTS | {"c": "p"}, max_gib).notes if "'c'" in n
    ]
    assert "slides 'a', 'c' have the same content: it counts 2 times" in note
    without = {s: p for s, p in PATIENTS.items() if s != "c"}
    assert not any("content" in note for note in read(tmp_path, without, max_gib).notes)


def test_the_same_scan_in_another_file_is_refused(make_embeddings, values, tmp_path):
    """As an anonymised copy: other bytes, the same tiles, one more scale."""
    values["d"] = {**values["b"], 1.0: np.ones((1, 2))}
    make_embeddings(values)
    with pytest.raises(InputError, match="slides 'b', 'd' have the same content"):
        read(tmp_path, PATIENTS)


def test_an_encoder_that_tells_nothing_apart_makes_no_copies(
    make_embeddings, values, tmp_path
):
    ones = np.ones((3, 2))
    values = {s: {0.5: ones, 1.0: np.full((1, 2), i)} for i, s in enumerate(values)}
    make_embeddings(values)
    assert len(read(tmp_path, PATIENTS)) == 4
