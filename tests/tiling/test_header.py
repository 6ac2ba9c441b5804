"""A slide's header against what tiling then makes of the slide."""

import pytest

from mshisto_ray.components import Part
from mshisto_ray.slides import SlideError
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.header import read_header
from mshisto_ray.tiling.recipe import TilingRecipe

RECIPE = TilingRecipe(scales=(0.5, 1.0), tile_px=64)


@pytest.fixture(scope="module")
def path(tmp_path_factory, write_slide):
    path = tmp_path_factory.mktemp("header") / "a.tiff"
    write_slide(path, 0, size=(600, 600))
    return path


def header(path, mpp=None, annotation=None, recipe=RECIPE):
    return read_header(CohortSlide("a", "p", path, mpp, annotation, {}), recipe)


def test_the_mpp_and_where_it_comes_from(path):
    found = header(path)
    assert (found.source, found.refused, found.warnings) == ("file", "", ())
    assert found.mpp == pytest.approx(0.5)
    assert found.area_mm2 == pytest.approx(0.3**2)
    assert header(path, mpp=0.51).source == "cohort"


def test_an_objective_in_the_mpp_column_is_refused_with_the_mpp_it_means(path):
    found = header(path, mpp=40)
    assert found.mpp is None and found.source == "cohort"
    assert "AbsurdMpp: the cohort gives 40" in found.refused
    assert "40x is about 0.25" in found.refused


@pytest.mark.parametrize(("mpp", "warned"), [(0.26, True), (0.54, False), (0.6, True)])
def test_a_cohort_that_contradicts_the_file_is_warned_of(path, mpp, warned):
    found = header(path, mpp=mpp)
    assert not found.refused
    assert bool(found.warnings) == warned
    if warned:
        assert f"the cohort gives {mpp:g} um/px, the file 0.5" in found.warnings[0]


def test_scales_that_a_slide_lacks(path):
    assert header(path, mpp=0.9).lacking == (0.5,)
    assert not header(path, mpp=0.9).refused
    assert "NoScale" in header(path, mpp=4.0).refused


def test_a_bad_annotation_is_a_warning_and_a_needed_one_a_refusal(path, tmp_path):
    (tmp_path / "a.geojson").write_text("{}")
    found = header(path, annotation=tmp_path / "a.geojson")
    assert not found.refused and "tiled without its annotation" in found.warnings[0]
    drawn = TilingRecipe(tissue=Part(name="annotation"))
    assert "NoAnnotation" in header(path, recipe=drawn).refused


def test_what_is_no_slide(tmp_path):
    (tmp_path / "broken.svs").write_bytes(b"not a slide")
    with pytest.raises(SlideError, match="no slide format"):
        header(tmp_path / "broken.svs")
    with pytest.raises(FileNotFoundError):
        header(tmp_path / "gone.svs")
