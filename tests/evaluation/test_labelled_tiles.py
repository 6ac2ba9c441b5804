"""Rows, classes and groups of tiles; every input mistake gives one clear line."""

import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.labelled_tiles import (
    UNANNOTATED,
    ExclusionConfig,
    LabelConfig,
)
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.tile_set import read_tile_set, read_values
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory


def identity(table):
    """An embedding that identifies its tile."""
    slide = [ord(name[-1]) for name in table["slide_id"].to_pylist()]
    columns = [table[name].to_numpy() for name in ("mpp", "row", "col")]
    return np.column_stack([slide, *columns]).astype(float)


CLASSES = ["A"] * 12 + ["B"] * 12 + ["edge"] * 3 + [None] * 9


@pytest.fixture
def read(stages, tmp_path):
    """Reads labelled tiles of three slides; s2 is not annotated."""

    def make(cohort=None, label=None, site=None, slides=None, embedded=None, **more):
        given = slides or {"s1": CLASSES, "s2": None, "s0": CLASSES[::-1]}
        tiles = TileDirectory(stages.tiles(given, patients={"s0": "p1", "s1": "p1"}))
        made = stages.embeddings(identity, "one")
        other = stages.embeddings(identity, "two", slides=embedded, **more)
        encoders = {"one": EmbeddingDirectory(made), "two": EmbeddingDirectory(other)}
        if cohort:
            path = tmp_path / "cohort.csv"
            path.write_text(cohort)
            cohort = read_cohort(path, check_files=False)
        config = LabelConfig(**(label or {}))
        return tiles, encoders, read_labelled_tiles(
            tiles, encoders, 0.5, cohort, config, site
        )  # fmt: skip

    return make


def test_rows_are_sorted_and_every_value_is_of_its_tile(read):
    _, encoders, labelled = read(lost=[("s0", 2, 3), ("s2", 0, 0)])
    tiles = labelled.tiles
    assert tiles.slide_ids == ("s0", "s1", "s2")
    assert labelled.patient_ids == ("p1", "p1", "s2")
    order = np.lexsort((tiles.col, tiles.row, tiles.slide))
    np.testing.assert_array_equal(order, np.arange(len(tiles)))
    for directory in encoders.values():
        values = read_values(directory, tiles)
        want = [
            [ord(tiles.slide_ids[s][-1]), 0.5, r, c]
            for s, r, c in zip(tiles.slide, tiles.row, tiles.col, strict=True)
        ]
        np.testing.assert_array_equal(values, want)
    found = set(zip(tiles.slide.tolist(), tiles.row.tolist(), tiles.col.tolist(),
                    strict=True))  # fmt: skip
    assert (0, 2, 3) not in found and (2, 0, 0) not in found
    # 3 tiles a slide on an edge, twice; two lost; the rest is there.
    assert len(found) == 3 * 36 - 6 - 2
    left_out, unseen = labelled.notes
    assert left_out == "6 tiles left out: less than 0.5 of each is annotated"
    assert unseen.startswith("1 slides have no annotated tile (s2 ...)")


def test_classes_are_those_of_the_annotation(read):
    _, _, labelled = read()
    assert labelled.counts() == {UNANNOTATED: 9 + 9 + 36, "A": 24, "B": 24}
    names = np.array(labelled.classes)[labelled.label]
    first = labelled.tiles.slide == 1
    want = [name or UNANNOTATED for name in CLASSES if name != "edge"]
    assert names[first].tolist() == want
    assert set(names[labelled.query_rows(None)]) == {"A", "B"}
    assert set(names[labelled.query_rows(["B"])]) == {"B"}
    np.testing.assert_allclose(labelled.tiles.centre[0], [25, 25])
    _, _, strict = read(label={"unannotated": "leave_out", "min_annotated": 0.3})
    assert strict.counts() == {"A": 24, "B": 24, "edge": 6}


def test_classes_patients_and_sites_of_the_cohort(read):
    cohort = (
        "path,slide_id,patient_id,grade,site\n"
        "a.svs,s0,q2,high,west\nb.svs,s1,q1,low,west\nc.svs,s2,q1,,east\n"
    )
    _, _, labelled = read(cohort, {"column": "grade"}, "site")
    assert labelled.tiles.slide_ids == ("s2", "s1", "s0")
    assert labelled.counts() == {"high": 36, "low": 36}
    assert labelled.notes == ("36 tiles left out: their slide has no grade",)
    excluded = {
        by: labelled.exclusion(ExclusionConfig(by=by)).is_excluded(
            np.arange(36)[:1], np.arange(72)
        ).sum()
        for by in ("self", "slide", "patient", "site", "block")
    }  # fmt: skip
    # Centres lie 50 um apart: all of the slide is within 1000 um.
    assert excluded == {"self": 1, "slide": 36, "patient": 36, "site": 72, "block": 36}


def test_parents_cover_their_children(read):
    tiles, encoders, labelled = read()
    coarse = read_tile_set(tiles, encoders, labelled.tiles.slide_ids, 1.0, False)
    assert len(coarse) == 27
    parents = labelled.tiles.parents(coarse)
    assert (parents >= 0).all()
    gap = np.abs(coarse.centre[parents] - labelled.tiles.centre)
    np.testing.assert_allclose(gap, 25)
    own = read_tile_set(tiles, encoders, labelled.tiles.slide_ids, 1.0)
    assert len(own) == 18 and (labelled.tiles.parents(own) == -1).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": {"scales": [0.5, 1.0], "tile_px": 64}},
         "two: .* other tiles than .* .tile_px: 100 -> 64.; give embeddings of these"),
        ({"prints": "other"}, "two: .* another file of slides 's0', 's1', 's2' than"),
        ({"slides": {"s1": None}}, "none of 36 tiles at 0.5 um/px is annotated"),
        ({"slides": {"s1": ["A"] * 36}}, "all 36 tiles are of class 'A'; .* two clas"),
        ({"label": {"column": "grade"}}, "'grade': this is a column of the cohort"),
        ({"label": {"column": "x"}, "cohort": "path,grade\ns0.svs,a\n"},
         "no column 'x'"),
        ({"cohort": "path\nelse.svs\n"}, "no slide is in the tiles, the cohort and"),
        ({"site": "site", "cohort": "path,site\ns0.svs,a\ns1.svs,\n"},
         "'site' is empty for 1 slides .s1.; fill it in"),
        ({"label": {"column": "grade"}, "cohort": "path,grade\ns0.svs,\n"},
         "all 0 tiles have no class"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(read, change, said):
    with pytest.raises(InputError, match=said) as caught:
        read(**change)
    assert "\n" not in str(caught.value)


def test_unknown_class_names_those_there_are(read):
    _, _, labelled = read()
    with pytest.raises(InputError, match=r"class 'C'; have A \(24 tiles\), B \(24"):
        labelled.query_rows(["A", "C"])


def test_slides_that_an_encoder_lacks_are_left_out_with_a_note(read):
    _, _, labelled = read(embedded=["s0", "s1"])
    assert labelled.tiles.slide_ids == ("s0", "s1")
    assert labelled.notes[0] == "1 slides left out: not embedded by two (s2 ...)"


def test_tiles_that_are_mostly_padding_are_left_out(read):
    """The slide is 5.5 x 5.98 tiles: of the last column half is padding."""
    tiles, encoders, _ = read()
    tiles.slides["s0"] |= {"width": 550, "height": 598}

    def kept(**label):
        found = read_labelled_tiles(
            tiles, encoders, 0.5, None, LabelConfig(column=None, **label), None
        )
        own = found.tiles.select(found.tiles.slide == 0)
        return set(zip(own.row.tolist(), own.col.tolist(), strict=True)), found.notes

    places, notes = kept()
    assert places == {(row, col) for row in range(6) for col in range(5)}
    assert any("6 tiles left out: more than 0.05 of each is beyond" in n for n in notes)
    # 1 - .5 * .98 of the corner, 1 - .5 of the tiles above it.
    assert len(kept(most_padded=0.5)[0]) == 35 and len(kept(most_padded=0.52)[0]) == 36
    assert len(kept(most_padded=0.01)[0]) == 25
