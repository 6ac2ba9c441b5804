"""Annotation as tissue: from an outline to the tiles inside it."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tifffile

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.embedding.unit import unit_key
from mshisto_ray.jobs import tile
from mshisto_ray.slides import (
    SlideError,
)
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import tile_slide

SQUARE = [[256, 384], [1024, 384], [1024, 768], [256, 768], [256, 384]]


def drawn(groups=None, **changes):
    tissue = {"name": "annotation", "groups": groups}
    raw = {"scales": [0.5, 1.0], "tile_px": 64, "tissue": tissue}
    return TilingRecipe(**(raw | changes))


def write_slide(path, tissue=()):
    """1600 x 1200 px at 0.5 um/px: glass, and tissue in a part of the pixels."""
    pixels = np.full((1200, 1600, 3), 240, np.uint8)
    if tissue:
        pixels[tissue] = (200, 120, 180)
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg",
        resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """1600 x 1200 px at 0.5 um/px, all glass: only what is drawn can be tissue."""
    path = tmp_path_factory.mktemp("slides") / "a.tiff"
    write_slide(path)
    return path


def geojson(path, **rings):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name}},
        }
        for name, ring in rings.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def asap(path, **rings):
    text = "<ASAP_Annotations><Annotations>"
    for name, ring in rings.items():
        corners = "".join(
            f"<Coordinate Order='{i}' X='{x}' Y='{y}'/>"
            for i, (x, y) in enumerate(ring)
        )
        text += f"<Annotation Name='x' PartOfGroup='{name}'><Coordinates>{corners}"
        text += "</Coordinates></Annotation>"
    path.write_text(text + "</Annotations></ASAP_Annotations>")
    return path


def row(slide, annotation):
    return CohortSlide("a", "a", slide, None, annotation, {})


@pytest.mark.parametrize("write", [geojson, asap])
def test_tiles_are_those_inside_the_outline(slide, tmp_path, write):
    far = [[x + 512, y] for x, y in SQUARE]
    path = write(tmp_path / f"a.{write.__name__[-4:]}", tumour=SQUARE, other=far)
    path = path.rename(path.with_suffix(".xml" if write is asap else ".geojson"))
    plans = tile_slide(row(slide, path), drawn(["tumour"])).plans
    assert [(int(p.x.min()), int(p.y.min())) for p in plans] == [(256, 384)] * 2
    assert [len(p.x) for p in plans] == [12 * 6, 6 * 3]
    assert all((plan.tissue == 1).all() for plan in plans)
    both = tile_slide(row(slide, path), drawn())
    assert len(both.plans[0].x) == 20 * 6
    assert both.record["tissue_mm2"] == pytest.approx(1280 * 384 * 0.25e-6)


def test_unusable_annotations_are_refused_with_the_reason(slide, tmp_path):
    path = geojson(tmp_path / "a.geojson", tumour=SQUARE)
    outside = geojson(tmp_path / "b.geojson", tumour=[[x + 1000, y] for x, y in SQUARE])
    (tmp_path / "c.xml").write_text("<ASAP_Annotations>")
    for annotation, groups, name, said in (
        (None, None, "NoAnnotation", "annotation column is empty"),
        (path, ["tumor"], "BadAnnotation", r"\(tumor\); have tumour"),
        (outside, None, "BadAnnotation", "55% of the annotated area lies outside"),
        (tmp_path / "c.xml", None, "BadAnnotation", "c.xml: neither ASAP XML nor"),
    ):
        with pytest.raises(SlideError, match=said) as caught:
            tile_slide(row(slide, annotation), drawn(groups))
        assert caught.value.name == name


def test_a_bad_annotation_that_is_not_needed_is_reported_and_left_out(tmp_path):
    write_slide(tmp_path / "a.tiff", np.s_[300:900, 200:900])
    far = geojson(tmp_path / "a.geojson", tumour=[[x + 9000, y] for x, y in SQUARE])
    tiled = tile_slide(row(tmp_path / "a.tiff", far), drawn(tissue={"name": "otsu"}))
    (failure,) = tiled.failures
    assert failure.error == "BadAnnotation"
    assert "100% of the annotated area lies outside" in failure.message
    assert set(tiled.tiles[0]["annotation"].to_pylist()) == {None}


def test_coordinates_in_micrometres_are_noticed(tmp_path):
    """At 0.5 um/px they are half of those in pixels, and stay within the slide."""
    write_slide(tmp_path / "a.tiff", np.s_[700:1100, 900:1500])
    corners = [[1000, 800], [1300, 800], [1300, 1000], [1000, 1000], [1000, 800]]

    def tiled(factor, **more):
        rings = {"tumour": [[x * factor, y * factor] for x, y in corners], **more}
        path = geojson(tmp_path / "a.geojson", **rings)
        given = row(tmp_path / "a.tiff", path)
        return tile_slide(given, drawn(tissue={"name": "otsu"}))

    assert tiled(1).failures == []
    (failure,) = tiled(0.5).failures
    assert failure.error == "AnnotationUnit"
    assert "a.geojson: 100% of 1 regions lie on glass, and 100%" in failure.message
    # One that is on tissue as it is speaks against micrometres.
    assert tiled(0.5, right=corners).failures == []


def test_a_changed_outline_is_embedded_again(slide, tmp_path):
    path = geojson(tmp_path / "a.geojson", tumour=SQUARE)
    first = tile_slide(row(slide, path), drawn()).record
    geojson(path, tumour=[[x + 64, y] for x, y in SQUARE])
    second = tile_slide(row(slide, path), drawn()).record
    assert first["fingerprint"] == second["fingerprint"]
    assert unit_key(first) != unit_key(second)


def test_a_cohort_without_annotations_is_refused_in_one_line(slide, tmp_path):
    (tmp_path / "c.csv").write_text(f"path\n{slide}\n")
    raw = {"cohort": str(tmp_path / "c.csv"), "out": str(tmp_path / "out")}
    raw |= {"tissue": {"name": "annotation"}}
    with pytest.raises(InputError, match="no slide has an annotation: fill the column"):
        tile.check(configs.validate(tile.TileConfig, raw))


def test_the_annotated_nest_of_a_real_slide(test_data):
    slides = test_data / "slides"
    recipe = drawn(scales=[1.0], tissue_threshold=0.9)
    for ending in ("xml", "geojson"):
        item = CohortSlide(
            "l", "l", slides / "lymphnode_HE_half.tiff", 1.0,
            slides / f"lymphnode_HE_half.{ending}", {},
        )  # fmt: skip
        tiled = tile_slide(item, recipe)
        table = pa.concat_tables(tiled.tiles)
        own = table["own"].to_numpy()
        assert own.sum() > 3 and None not in table["annotation"].to_pylist()
