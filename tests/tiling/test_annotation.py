import json

import numpy as np
import pytest

from mshisto_ray.slides import Frame, frame_of, open_slide
from mshisto_ray.tiling.annotation import (
    AnnotationError,
    annotate,
    check_within,
    read_annotation,
)


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def asap(path, *annotations):
    text = "<?xml version='1.0'?><ASAP_Annotations><Annotations>"
    for name, group, corners in annotations:
        text += f"<Annotation Name='{name}' Type='Polygon' PartOfGroup='{group}'>"
        text += "<Coordinates>"
        for order, (x, y) in enumerate(corners):
            text += f"<Coordinate Order='{order}' X='{x}' Y='{y}'/>"
        text += "</Coordinates></Annotation>"
    path.write_text(text + "</Annotations></ASAP_Annotations>")
    return path


def geojson(path, *features):
    items = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": rings},
            "properties": {"classification": {"name": name}} if name else {},
        }
        for name, rings in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def classes(regions, xs, ys, extent):
    names, shares = annotate(regions, np.array(xs), np.array(ys), extent)
    return names, shares.tolist()


def test_asap_group_then_name(tmp_path):
    path = asap(
        tmp_path / "a.xml",
        ("first", "tumour", square(0, 0, 20)),
        ("lonely", "None", square(100, 100, 10)),
        ("dot", "tumour", [[1, 1]]),
    )
    regions = read_annotation(path)
    assert [r.name for r in regions] == ["tumour", "lonely"]
    names, shares = classes(regions, [0, 100, 50], [0, 100, 50], 10.0)
    assert names == ["tumour", "lonely", None]
    assert shares == [1.0, 1.0, 0.0]


def test_geojson_hole_and_missing_class(tmp_path):
    ring = [*square(0, 0, 30), [0, 0]]
    hole = [*square(10, 10, 10), [10, 10]]
    path = geojson(tmp_path / "a.geojson", ("gland", [ring, hole]))
    regions = read_annotation(path)
    names, shares = classes(regions, [0, 10], [0, 10], 10.0)
    assert names == ["gland", None] and shares == [1.0, 0.0]
    path = geojson(tmp_path / "b.geojson", (None, [ring]))
    assert read_annotation(path)[0].name == "unnamed"
    content = json.loads(path.read_text())
    content["features"][0]["properties"] = {"classification": "nest"}
    path.write_text(json.dumps(content))
    assert read_annotation(path)[0].name == "nest"


def test_smallest_region_with_the_centre_wins_and_share_is_of_its_class(tmp_path):
    path = asap(
        tmp_path / "a.xml",
        ("big", "tissue", square(0, 0, 100)),
        ("nest", "tumour", square(20, 20, 16)),
    )
    regions = read_annotation(path)
    names, shares = classes(regions, [20, 32, 60], [20, 20, 60], 10.0)
    # The second tile's centre (37, 25) lies outside the nest: 4 of 10 columns in it.
    assert names == ["tumour", "tissue", "tissue"]
    assert shares == [1.0, 1.0, 1.0]


def test_a_tile_whose_centre_is_free_takes_what_covers_most(tmp_path):
    path = asap(
        tmp_path / "a.xml",
        ("a", "left", [[0, 0], [2, 0], [2, 10], [0, 10]]),
        ("b", "right", [[7, 0], [10, 0], [10, 10], [7, 10]]),
    )
    names, shares = classes(read_annotation(path), [0], [0], 10.0)
    assert names == ["right"]
    assert shares == pytest.approx([0.3])


def test_crossing_outlines_keep_their_area(tmp_path):
    bow = [[0, 0], [10, 10], [10, 0], [0, 10]]
    regions = read_annotation(asap(tmp_path / "a.xml", ("bow", "None", bow)))
    _, shares = classes(regions, [0], [0], 10.0)
    assert shares == pytest.approx([0.5])


def test_random_regions_equal_a_pixel_count(tmp_path):
    rng = np.random.default_rng(0)
    corners = [tuple(map(int, rng.integers(0, 60, 2))) for _ in range(6)]
    boxes = [square(x, y, 17) for x, y in corners]
    path = asap(tmp_path / "a.xml", *((f"n{i}", "all", b) for i, b in enumerate(boxes)))
    covered = np.zeros((80, 80), bool)
    for x, y in corners:
        covered[y : y + 17, x : x + 17] = True
    xs, ys = (g.ravel() * 10 for g in np.meshgrid(np.arange(8), np.arange(8)))
    _, shares = classes(read_annotation(path), xs, ys, 10.0)
    expected = [
        covered[y : y + 10, x : x + 10].mean() for x, y in zip(xs, ys, strict=True)
    ]
    np.testing.assert_allclose(shares, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xml", "<ASAP_Annotations>"),
        ("a.geojson", "not json"),
        ("a.json", '{"type": "Feature"}'),
        (
            "b.json",
            '{"features": [{"geometry": {"type": "Polygon", "coordinates": '
            '[[[0, 0], [0, 9], [9, 9], [0, 0]]]}, "properties": ["nest"]}]}',
        ),
        (
            "bomb.xml",
            "<!DOCTYPE x [<!ENTITY a 'aa'>]><ASAP_Annotations>&a;</ASAP_Annotations>",
        ),
    ],
)
def test_unusable_files_are_named(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(AnnotationError, match=name):
        read_annotation(path)


def imagescope(path, *regions):
    """One layer of regions: type, negative, corners."""
    text = "<Annotations MicronsPerPixel='0.25'><Annotation Name='nest'><Regions>"
    for kind, negative, corners in regions:
        text += f"<Region Type='{kind}' NegativeROA='{negative}'><Vertices>"
        text += "".join(f"<Vertex X='{x}' Y='{y}' Z='0'/>" for x, y in corners)
        text += "</Vertices></Region>"
    path.write_text(text + "</Regions></Annotation></Annotations>")
    return path


def test_imagescope_shapes_and_what_is_cut_out_of_them(tmp_path):
    path = imagescope(
        tmp_path / "a.xml",
        (0, 0, square(0, 0, 100)),
        (0, 1, square(20, 20, 10)),  # negative
        (1, 0, [[200, 0], [300, 50]]),  # a rectangle by its corners
        (2, 0, [[400, 0], [500, 100]]),  # an ellipse by its corners
        (4, 0, [[0, 0], [900, 900], [0, 900]]),  # a ruler
    )
    regions = read_annotation(path)
    assert [region.name for region in regions] == ["nest"] * 3
    areas = [region.polygon.area for region in regions]
    assert areas == pytest.approx([10_000 - 100, 5000, np.pi * 2500], rel=1e-3)
    assert regions[2].polygon.bounds == pytest.approx((400, 0, 500, 100))


NDPA = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <ndpviewstate id="1"><title>tumour</title><coordformat>nanometers</coordformat>
    <x>0</x><y>0</y>
    <annotation type="freehand" displayname="AnnotateFreehand"><measuretype>0
      </measuretype><closed>1</closed><pointlist>{}</pointlist></annotation>
  </ndpviewstate>
  <ndpviewstate id="2"><title>round</title><coordformat>nanometers</coordformat>
    <annotation type="circle"><x>{}</x><y>{}</y><radius>{}</radius></annotation>
  </ndpviewstate>
  <ndpviewstate id="3"><title>line</title><coordformat>nanometers</coordformat>
    <annotation type="freehand"><closed>0</closed><pointlist>{}</pointlist>
    </annotation></ndpviewstate>
</annotations>"""


def test_ndpa_counts_from_the_centre_of_the_glass_slide(tmp_path, test_data):
    """On a real NDPI, whose image's centre is 12.5 mm right of the glass slide's."""
    slide = open_slide(test_data / "odd" / "test3-DAPI-2-387_fluorescence.ndpi")
    frame, (width, height) = frame_of(slide), (3968, 4864)
    slide.close()
    nm = 228.1750559028887

    def from_centre(x, y):
        offset = (12_538_720, -96_063)
        return (x - width / 2) * nm + offset[0], (y - height / 2) * nm + offset[1]

    corners = [from_centre(*corner) for corner in square(1000, 2000, 500)]
    points = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in corners)
    centre = from_centre(3000, 3000)
    (tmp_path / "a.ndpa").write_text(NDPA.format(points, *centre, 100 * nm, points))
    drawn, circle = read_annotation(tmp_path / "a.ndpa", frame)
    assert (drawn.name, circle.name) == ("tumour", "round")
    assert drawn.polygon.bounds == pytest.approx((1000, 2000, 1500, 2500))
    assert circle.polygon.bounds == pytest.approx((2900, 2900, 3100, 3100))
    with pytest.raises(AnnotationError, match=r"a\.ndpa: Hamamatsu NDPA counts from"):
        read_annotation(tmp_path / "a.ndpa")


def test_xml_counts_from_the_plane_and_geojson_from_the_scanned_area(tmp_path):
    frame = Frame((9000, 9000), (1000, 2000), (3000, 3000))
    xml = asap(tmp_path / "a.xml", ("a", "g", square(1100, 2100, 50)))
    ring = [*square(100, 100, 50), [100, 100]]
    drawn = geojson(tmp_path / "a.geojson", ("g", [ring]))
    (one,), (two,) = (read_annotation(path, frame) for path in (xml, drawn))
    assert one.polygon.equals(two.polygon)
    check_within([one], frame)
    (inside,) = read_annotation(drawn)
    assert inside.polygon.bounds == (100, 100, 150, 150)
    with pytest.raises(AnnotationError, match=r"\(1000, 2000\) of its plane"):
        check_within([inside], frame)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_are_told_by_the_files(tmp_path, encoding):
    text = asap(tmp_path / "a.xml", ("a", "Übergang", square(0, 0, 9))).read_text()
    text = text.replace(
        "version='1.0'", f"version='1.0' encoding='{encoding.removesuffix('-sig')}'"
    )
    (tmp_path / "a.xml").write_text(text, encoding=encoding)
    drawn = geojson(tmp_path / "b.json", ("Übergang", [[*square(0, 0, 9), [0, 0]]]))
    drawn.write_text(drawn.read_text(), encoding=encoding)
    for path in (tmp_path / "a.xml", drawn):
        assert read_annotation(path)[0].name == "Übergang"


def test_real_files_agree(test_data):
    slides = test_data / "slides"
    xml = read_annotation(slides / "lymphnode_HE_half.xml")
    qupath = read_annotation(slides / "lymphnode_HE_half.geojson")
    assert len(xml) == len(qupath) >= 1
    for a, b in zip(xml, qupath, strict=True):
        assert a.polygon.intersection(b.polygon).area >= 0.99 * a.polygon.area


def test_one_outline_of_two_classes_is_refused(tmp_path):
    ring = [square(10, 10, 50)]
    turned = [[*ring[0][2:], *ring[0][:2]]]
    for shape in (ring, turned):
        closed = [[*corners, corners[0]] for corners in shape]
        first = [[*ring[0], ring[0][0]]]
        path = geojson(tmp_path / "a.geojson", ("tumour", first), ("stroma", closed))
        with pytest.raises(AnnotationError, match="'tumour' and 'stroma': a tile has"):
            read_annotation(path)
    same = geojson(tmp_path / "a.geojson", ("tumour", first), ("tumour", first))
    assert [region.name for region in read_annotation(same)] == ["tumour"] * 2


@pytest.mark.parametrize("kind", ["Dot", "PointSet", "Measurement"])
def test_points_of_asap_are_no_area(tmp_path, kind):
    path = asap(tmp_path / "a.xml", ("a", "cells", square(0, 0, 100)))
    path.write_text(path.read_text().replace("Polygon", kind))
    with pytest.raises(AnnotationError, match=r"without any polygon \(1 other shapes"):
        read_annotation(path)


@pytest.mark.parametrize("key", ["name", "label", "class"])
def test_a_class_may_be_a_property_of_its_own(tmp_path, key):
    path = geojson(tmp_path / "a.geojson", (None, [[*square(0, 0, 9), [0, 0]]]))
    text = path.read_text().replace(
        '"properties": {}', f'"properties": {{"{key}": "t"}}'
    )
    path.write_text(text)
    assert [region.name for region in read_annotation(path)] == ["t"]
