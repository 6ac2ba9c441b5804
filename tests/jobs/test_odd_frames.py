"""Annotations and GeoJSON in the frame of their software, through the tile job."""

import json

import numpy as np
import openslide as raw
import pyarrow.compute as pc
import pytest
import shapely
from fixtures.odd_slides import (
    NM,
    feature,
    on_glass,
    planned,
    write,
    write_ndpi,
    write_scn,
)

from mshisto_ray.store.shards import read_metadata, write_shard
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling.unit import geojson_paths

AREA = (2600, 2000, 400, 300, 1700, 1300)
RING = [[400, 300], [2100, 300], [2100, 1600], [400, 1600], [400, 300]]
SQUARE = [[400, 400], [1400, 400], [1400, 1400], [400, 1400], [400, 400]]


def shapes(path):
    features = json.loads(path.read_text())["features"]
    return [shapely.geometry.shape(item["geometry"]) for item in features]


def as_geojson(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_geojson_is_in_qupaths_frame_in_and_out(tile_slides, tmp_path):
    """QuPath crops to ``openslide.bounds-*`` and counts from the corner of that."""
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    two = write_scn(
        tmp_path / "two.scn", [(area, 1000, 1000), (area, 4000, 6000)], 7000, 9000
    )
    drawn = as_geojson(tmp_path / "a.geojson", feature(RING, name="tumour"))
    annotated = {"annotation": drawn}
    tiles = tile_slides(
        {"one": (one, annotated), "two": (two, annotated)}, geojson=True
    )
    assert not tiles.failures
    for name, origin, shown in (
        ("one", (3000, 5000), (2600, 2000)),
        ("two", (1000, 1000), (5600, 7000)),
    ):
        record = tiles.slides[name]
        assert (record["bounds_x"], record["bounds_y"]) == origin
        table = tiles.read(name)
        x, y = table["x"].to_numpy(), table["y"].to_numpy()
        # In the outline where it lies on the plane, and nowhere else.
        middle = np.stack([x, y], 1) + table["extent"].to_numpy()[:, None] / 2 - origin
        inside = shapely.contains_xy(shapely.Polygon(RING), *middle.T)
        assert inside.sum() > 25
        classes = np.array(table["annotation"].to_pylist())
        assert (classes[inside] == "tumour").all()
        far = (middle > np.array(RING).max(0) + 600).any(1)
        assert (classes[far] != "tumour").all()
        pieces, boxes = map(shapes, geojson_paths(tiles.path, name))
        assert len(boxes) == table.num_rows
        corners = {(*(np.array(b.bounds[:2]) + origin), b.area) for b in boxes}
        extent = table["extent"].to_numpy()
        assert corners == set(zip(x, y, extent**2, strict=True))
        whole = shapely.union_all(pieces)
        assert shapely.box(0, 0, *shown).contains(whole)
        # The drawn tissue, but for its smoothed edge.
        assert whole.intersection(shapely.Polygon(RING)).area > 0.99 * 1700 * 1300


def test_tissue_goes_to_qupath_and_back_to_the_pixel(tile_slides, tmp_path):
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    found = tile_slides({"one": (one, {})}, geojson=True)
    tissue_path, _ = geojson_paths(found.path, "one")
    annotated = {"one": (one, {"annotation": tissue_path})}
    again = tile_slides(annotated, "again", tissue={"name": "annotation"})
    assert not again.failures
    columns = ("mpp", "row", "col", "x", "y", "tissue", "own")
    assert planned(found, "one", *columns) == planned(again, "one", *columns)


def test_an_outline_in_qupaths_frame_is_tissue_there(tile_slides, tmp_path):
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    drawn = as_geojson(tmp_path / "a.geojson", feature(RING, name="tumour"))
    tiles = tile_slides(
        {"one": (one, {"annotation": drawn})}, tissue={"name": "annotation"}
    )
    assert not tiles.failures
    table = tiles.read("one")
    fine = table.filter(pc.field("mpp") == 0.5)
    slide = raw.OpenSlide(one)
    for x, y in zip(fine["x"].to_pylist(), fine["y"].to_pylist(), strict=True):
        pixels = np.asarray(slide.read_region((x, y), 0, (256, 256)))
        assert pixels[..., 3].min() == 255 and pixels[..., 1].mean() < 220


def test_a_plan_of_an_older_version_is_made_anew_where_it_was_drawn_on(
    tile_slides, tmp_path, capsys
):
    """It does not say in which frame the annotation was taken."""
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    two = write(tmp_path / "two.tif", [on_glass(1000, 900, 200, 200, 600, 500)])
    drawn = as_geojson(tmp_path / "a.geojson", feature(RING, name="tumour"))
    slides = {"one": (one, {"annotation": drawn}), "two": (two, {})}
    first = tile_slides(slides)
    for name in slides:
        path = shard_path(first.path, name)
        metadata = read_metadata(path)
        for key in ("bounds_x", "bounds_y"):
            del metadata["slide"][key]
        write_shard(path, [first.read_chunk(name, 0)], metadata)
    capsys.readouterr()
    again = tile_slides(slides)
    printed = capsys.readouterr().out
    assert "tile: 1 of 2 slides already done" in printed
    assert "tile: 1 slides were tiled by a version that did not record" in printed
    assert again.slides["one"] == first.slides["one"]
    assert again.slides["two"]["bounds_x"] is None
    assert planned(again, "one") == planned(first, "one")


def test_an_outline_of_the_plane_is_refused_with_the_frame(tile_slides, tmp_path):
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    ring = [[x + 3000, y + 5000] for x, y in RING]
    drawn = as_geojson(tmp_path / "a.geojson", feature(ring, name="tumour"))
    tiles = tile_slides({"one": (one, {"annotation": drawn})})
    (failure,) = tiles.failures
    assert failure["error"] == "BadAnnotation"
    assert "(3000, 5000) of its plane, where GeoJSON counts from" in failure["message"]


def texts():
    """Annotation files of a square: text, class, and share of the square covered."""
    points = [(x, y) for x, y in SQUARE[:4]]
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    whole = {"type": "FeatureCollection", "features": [feature(SQUARE, name="tumour")]}
    names = feature(SQUARE, names=["tumour", "necrosis"])
    bow = [[400, 400], [1400, 1400], [1400, 400], [400, 1400], [400, 400]]
    imagescope = (
        '<Annotations MicronsPerPixel="0.5"><Annotation Id="1" Name="tumour" Type="4">'
        '<Regions><Region Id="1" Type="0" NegativeROA="0" Text="x"><Vertices>'
        f"{vertices}</Vertices></Region></Regions></Annotation></Annotations>"
    )
    return {
        "imagescope.xml": (imagescope, "tumour", 1.0),
        "bowtie.geojson": (
            json.dumps({"features": [feature(bow, name="tumour")]}), "tumour", 0.5,
        ),
        "names.geojson": (json.dumps({"features": [names]}), "tumour: necrosis", 1.0),
        "one.geojson": (json.dumps(feature(SQUARE, name="tumour")), "tumour", 1.0),
        "number.geojson": (json.dumps(feature(SQUARE, name=3)), "3", 1.0),
        "bom.geojson": ("\ufeff" + json.dumps(whole), "tumour", 1.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", texts())
def test_an_annotation_marks_its_tiles(tile_slides, tmp_path, name):
    text, expected, share = texts()[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    slide = write(tmp_path / "a.tif", [on_glass(2048, 2048, 300, 300, 1300, 1300)])
    tiles = tile_slides({"a": (slide, {"annotation": tmp_path / name})}, scales=[0.5])
    assert not tiles.failures
    table = tiles.read("a")
    covered = table["annotated"].to_numpy() * table["extent"].to_numpy() ** 2
    assert covered.sum() == pytest.approx(share * 1e6, rel=0.01)
    found = {n for n in table["annotation"].to_pylist() if n}
    assert found == {expected}


def test_ndpa_marks_the_tiles_of_its_ndpi(tile_slides, tmp_path):
    """It counts in nanometres from the centre of the glass slide."""
    plane, offset = on_glass(2048, 2048, 300, 300, 1300, 1300), (700_000, -300_000)
    path = write_ndpi(tmp_path / "a.ndpi", plane, offset)
    corners = [((x - 1024) * NM + offset[0], (y - 1024) * NM + offset[1])
               for x, y in SQUARE[:4]]  # fmt: skip
    points = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in corners)
    drawn = tmp_path / "a.ndpi.ndpa"
    drawn.write_text(
        '<annotations><ndpviewstate id="1"><title>tumour</title><coordformat>nanometers'
        '</coordformat><annotation type="freehand"><pointlist>'
        f"{points}</pointlist></annotation></ndpviewstate></annotations>"
    )
    tiles = tile_slides({"a": (path, {"annotation": drawn})}, scales=[0.5])
    assert not tiles.failures
    table = tiles.read("a")
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    boxes = shapely.box(x, y, x + 256, y + 256)
    shares = shapely.area(shapely.intersection(boxes, shapely.Polygon(SQUARE)))
    np.testing.assert_allclose(table["annotated"], shares / 256**2, atol=1e-6)
    assert (shares > 0).sum() >= 16


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.ndpa",
            "<annotations><ndpviewstate id='1'><title>t</title></ndpviewstate>"
            "</annotations>",
            "Hamamatsu NDPA counts from the centre",
        ),
        ("a.xml", "<Annotations/>", "Aperio ImageScope XML without any polygon"),
        ("b.xml", "<ASAP_Annotations/>", "ASAP XML without any polygon"),
        ("c.xml", "<svg/>", "XML with root element svg"),
        ("a.geojson", '{"features": []}', "GeoJSON without any polygon"),
        (
            "p.geojson",
            '{"type": "Point", "coordinates": [3, 4]}',
            "GeoJSON without any polygon",
        ),
        (
            "m.xml",
            '<Annotations MicronsPerPixel="0.25"/>',
            "pixels of 0.25 um, and this slide's file says 0.5 um",
        ),
        (
            "two.geojson",
            json.dumps([feature(SQUARE, name=n) for n in ("Tumour", " tumour ")]),
            "classes: 'Tumour' and 'tumour' differ only by case",
        ),
        ("a.txt", "x,y\n1,2\n", "neither ASAP XML nor ImageScope XML, NDPA or GeoJSON"),
        ("e.geojson", "", "neither ASAP XML nor"),
    ],
)
def test_an_annotation_without_a_polygon_is_never_silent(
    tile_slides, tmp_path, name, text, said
):
    (tmp_path / name).write_text(text)
    slide = write(tmp_path / "a.tif", [on_glass(1024, 1024, 200, 200, 600, 600)])
    tiles = tile_slides({"a": (slide, {"annotation": tmp_path / name})})
    (failure,) = tiles.failures
    assert failure["error"] == "BadAnnotation" and said in failure["message"]
    assert "tiled without its annotation" in failure["message"]
    assert tiles.read("a").num_rows
