"""Slides as labs have them, through the tile job: nothing is silently wrong."""

import json
import re

import numpy as np
import openslide as raw
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from fixtures.odd_slides import (
    claim_size,
    drop_tiles,
    feature,
    on_glass,
    shrink,
    tissue,
    write,
    write_scn,
)

from mshisto_ray import config as configs
from mshisto_ray.jobs import embed, tile
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.unit import geojson_paths

AREA = (2600, 2000, 400, 300, 1700, 1300)
RING = [[400, 300], [2100, 300], [2100, 1600], [400, 1600], [400, 300]]
SQUARE = [[400, 400], [1400, 400], [1400, 1400], [400, 1400], [400, 400]]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """One store for all runs: making one takes longer than a slide."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def run(plain, tmp_path, mlflow):
    """Tiles slides, {name: (path, cells of the cohort)}; the directory."""

    def go(slides, out="tiles", **keys):
        columns = sorted({name for _, cells in slides.values() for name in cells})
        lines = [",".join(["slide_id", "path", *columns])]
        for name, (path, cells) in slides.items():
            values = [str(cells.get(column, "")) for column in columns]
            lines.append(",".join([name, str(path), *values]))
        (tmp_path / "cohort.csv").write_text("\n".join(lines) + "\n")
        given = {"cohort": str(tmp_path / "cohort.csv"), "out": str(tmp_path / out)}
        given["runtime"] = {"max_failures": 1.0, "mlflow": {"uri": mlflow}}
        tile.run(configs.validate(tile.TileConfig, given | keys))
        return TileDirectory(tmp_path / out)

    return go


def failures(tiles):
    """(slide, error, mpp, row, col) of every failure."""
    names = ("slide_id", "error", "mpp", "row", "col")
    return {tuple(failure[name] for name in names) for failure in tiles.failures}


def planned(tiles, slide_id, *columns):
    table = tiles.read(slide_id)
    names = columns or ("mpp", "row", "col", "own")
    return set(zip(*(table[name].to_pylist() for name in names), strict=True))


def shapes(path):
    features = json.loads(path.read_text())["features"]
    return [shapely.geometry.shape(item["geometry"]) for item in features]


def as_geojson(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_geojson_is_in_qupaths_frame_in_and_out(run, tmp_path):
    """QuPath crops to ``openslide.bounds-*`` and counts from the corner of that."""
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    two = write_scn(
        tmp_path / "two.scn", [(area, 1000, 1000), (area, 4000, 6000)], 7000, 9000
    )
    drawn = as_geojson(tmp_path / "a.geojson", feature(RING, name="tumour"))
    annotated = {"annotation": drawn}
    tiles = run({"one": (one, annotated), "two": (two, annotated)}, geojson=True)
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


def test_tissue_goes_to_qupath_and_back_to_the_pixel(run, tmp_path):
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    found = run({"one": (one, {})}, geojson=True)
    tissue_path, _ = geojson_paths(found.path, "one")
    annotated = {"one": (one, {"annotation": tissue_path})}
    again = run(annotated, "again", tissue={"name": "annotation"})
    assert not again.failures
    columns = ("mpp", "row", "col", "x", "y", "tissue", "own")
    assert planned(found, "one", *columns) == planned(again, "one", *columns)


def test_an_outline_in_qupaths_frame_is_tissue_there(run, tmp_path):
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    drawn = as_geojson(tmp_path / "a.geojson", feature(RING, name="tumour"))
    tiles = run({"one": (one, {"annotation": drawn})}, tissue={"name": "annotation"})
    assert not tiles.failures
    table = tiles.read("one")
    fine = table.filter(pc.field("mpp") == 0.5)
    slide = raw.OpenSlide(one)
    for x, y in zip(fine["x"].to_pylist(), fine["y"].to_pylist(), strict=True):
        pixels = np.asarray(slide.read_region((x, y), 0, (256, 256)))
        assert pixels[..., 3].min() == 255 and pixels[..., 1].mean() < 220


def test_an_outline_of_the_plane_is_refused_with_the_frame(run, tmp_path):
    area = on_glass(*AREA)
    one = write_scn(tmp_path / "one.scn", [(area, 3000, 5000)], 7000, 9000)
    ring = [[x + 3000, y + 5000] for x, y in RING]
    drawn = as_geojson(tmp_path / "a.geojson", feature(ring, name="tumour"))
    tiles = run({"one": (one, {"annotation": drawn})})
    (failure,) = tiles.failures
    assert failure["error"] == "BadAnnotation"
    assert "(3000, 5000) of its plane, where GeoJSON counts from" in failure["message"]


def test_fluorescence_and_filler_are_told_apart(run, tmp_path):
    grain = tissue(1400, 1000)
    blue = np.zeros((2000, 2600, 3), np.uint8)
    blue[400:1400, 500:1900, 2] = grain.mean(2)
    grey = np.zeros((2000, 2600, 3), np.uint8)
    grey[400:1400, 500:1900] = (np.random.default_rng(0).random((1000, 1400, 1)) ** 4
                                * 255)  # fmt: skip
    filler = np.zeros((6000, 9000, 3), np.uint8)
    filler[3000:5000, 3500:6500] = on_glass(3000, 2000, 400, 300, 1900, 1300)
    tiles = run(
        {
            "clear": (
                write_scn(tmp_path / "a.scn", [(blue, 3000, 5000)], 7000, 9000),
                {},
            ),
            "blue": (write(tmp_path / "b.tif", [blue, shrink(blue, 4)]), {}),
            "grey": (write(tmp_path / "g.tif", [grey, shrink(grey, 4)]), {}),
            "filled": (write(tmp_path / "f.tif", [filler, shrink(filler, 4)]), {}),
        }
    )
    none = (None, None, None)
    names = ("clear", "blue", "grey")
    assert failures(tiles) == {(name, "NotBrightField", *none) for name in names}
    table = tiles.read("filled")
    own = table.filter(table["own"])
    x, y = own["x"].to_numpy(), own["y"].to_numpy()
    side = own["extent"].to_numpy()
    # At least half of each own tile lies in the tissue, none is made of filler.
    tissue_box = shapely.box(3900, 3300, 5800, 4600)
    boxes = shapely.box(x, y, x + side, y + side)
    shares = shapely.area(shapely.intersection(boxes, tissue_box)) / side**2
    assert len(own) > 40 and shares.min() > 0.4


def test_tissue_that_the_file_lacks_is_a_failure_of_its_tiles(run, tmp_path):
    plane = on_glass(4096, 3072, 600, 600, 2200, 1500)
    path = write(tmp_path / "a.tif", [plane, shrink(plane, 4)])
    # In tissue, and on glass.
    drop_tiles(path, [(r, c) for r in (4, 5) for c in (5, 6)] + [(0, 0), (11, 15)])
    whole = write(tmp_path / "b.tif", [plane, shrink(plane, 4)])
    tiles, expected = run({"a": (path, {})}), run({"a": (whole, {})}, "whole")
    fine = {("a", "MissingPixels", 0.5, r, c) for r in (4, 5) for c in (5, 6)}
    coarse = {("a", "MissingPixels", 1.0, 2, c) for c in (2, 3)}
    assert failures(tiles) == fine | coarse
    assert {failure["kind"] for failure in tiles.failures} == {"input"}
    lost = {(mpp, row, col) for _, _, mpp, row, col in fine | coarse}
    kept = planned(tiles, "a")
    assert kept == {t for t in planned(expected, "a") if t[:3] not in lost}
    counts = dict(tiles.slides["a"]["tiles_per_scale"])
    assert sum(counts.values()) == len(kept)


def test_a_hole_in_every_level_is_no_glass(run, tmp_path):
    """What lies in the middle of tissue and is nowhere in the file may be tissue."""
    plane = on_glass(4096, 3072, 600, 600, 2200, 1500)
    path = write(tmp_path / "a.tif", [plane, shrink(plane, 4)], tile=64)
    drop_tiles(path, [(r, c) for r in range(16, 24) for c in range(20, 28)])
    drop_tiles(path, [(r, c) for r in range(4, 6) for c in range(5, 7)], level=1)
    tiles = run({"a": (path, {})})
    fine = {f[3:] for f in failures(tiles) if f[2] == 0.5}
    assert fine == {(r, c) for r in (4, 5) for c in (5, 6)}
    kept = {t[:3] for t in planned(tiles, "a")}
    assert not kept & {(0.5, *place) for place in fine}


def test_what_an_older_plan_has_of_missing_tissue_is_not_embedded(run, tmp_path):
    """Planned when the file held it, as by a version that did not look."""
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    path = write(tmp_path / "a.tif", [plane])
    tiles = run({"a": (path, {})})
    drop_tiles(path, [(3, 3)])
    record = dict(tiles.slides["a"])
    table = pq.read_table(tiles.path / "slides.parquet")
    index = table.schema.get_field_index("fingerprint")
    changed = [[slide_fingerprint(path)]]
    table = table.set_column(index, table.schema.field(index), changed)
    pq.write_table(table, tiles.path / "slides.parquet")
    given = {"tiles": str(tiles.path), "out": str(tmp_path / "embeddings")}
    given["encoder"] = {"name": "colour_stats"}
    embed.run(configs.validate(embed.EmbedConfig, given))
    found = pq.read_table(tmp_path / "embeddings" / "failures.parquet").to_pylist()
    assert {(f["error"], f["mpp"], f["row"], f["col"]) for f in found} == {
        ("MissingPixels", 0.5, 3, 3)
    }
    assert record["fingerprint"] != changed[0][0]


def test_levels_whose_sides_disagree_are_not_read(run, tmp_path):
    plane = on_glass(4099, 3075, 301, 299, 3300, 2400)
    half = shrink(plane, 2)
    padded = np.full((1792, 2304, 3), 243, np.uint8)
    padded[: half.shape[0], : half.shape[1]] = half
    levels = {"sound": half, "padded": padded, "cropped": half[:1280, :1792]}
    tiles = run(
        {
            name: (write(tmp_path / f"{name}.tif", [plane, level]), {})
            for name, level in levels.items()
        }
    )
    assert not tiles.failures
    expected = planned(tiles, "sound")
    assert len(expected) > 100
    for name, size in (("padded", "2304 x 1792"), ("cropped", "1792 x 1280")):
        assert planned(tiles, name) == expected
        assert f"levels not read: {size}" in tiles.slides[name]["reader_reason"]
        readings = json.loads(tiles.slides[name]["resolution"])
        assert {reading["level"] for reading in readings} == {0}
    assert "not read" not in tiles.slides["sound"]["reader_reason"]


def test_a_sound_level_beyond_an_unsound_one_keeps_its_number(run, tmp_path):
    plane = on_glass(4099, 3075, 301, 299, 3300, 2400)
    half = shrink(plane, 2)
    levels = [plane, half[:1280, :1792], shrink(plane, 4)]
    tiles = run({"a": (write(tmp_path / "a.tif", levels), {})})
    readings = json.loads(tiles.slides["a"]["resolution"])
    assert [reading["level"] for reading in readings] == [0, 0, 2]


@pytest.mark.parametrize(
    ("file", "table", "said"),
    [
        (0.05, "", "the file gives 0.05 micrometres"),
        (0.079, "", "plausible: 0.08 to 50"),
        (0.5, 0.05, "the cohort gives 0.05 micrometres"),
        (0.5, 40, r"not the magnification \(40x is about 0.25\)"),
        (0.5, 20, r"\(20x is about 0.5\)"),
    ],
)
def test_an_absurd_mpp_is_refused_with_the_fix(run, tmp_path, file, table, said):
    path = write(tmp_path / "a.tif", [on_glass(1000, 900, 200, 200, 600, 500)], file)
    run({"a": (path, {"mpp": table})})
    (failure,) = TileDirectory(tmp_path / "tiles").failures
    assert (failure["error"], failure["kind"]) == ("AbsurdMpp", "input")
    assert re.search(said, failure["message"])
    assert "cohort's mpp column" in failure["message"]


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
        "bom.geojson": ("\ufeff" + json.dumps(whole), "tumour", 1.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", texts())
def test_an_annotation_marks_its_tiles(run, tmp_path, name):
    text, expected, share = texts()[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    slide = write(tmp_path / "a.tif", [on_glass(2048, 2048, 300, 300, 1300, 1300)])
    tiles = run({"a": (slide, {"annotation": tmp_path / name})}, scales=[0.5])
    assert not tiles.failures
    table = tiles.read("a")
    covered = table["annotated"].to_numpy() * table["extent"].to_numpy() ** 2
    assert covered.sum() == pytest.approx(share * 1e6, rel=0.01)
    found = {n for n in table["annotation"].to_pylist() if n}
    assert found == {expected}


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
        ("a.txt", "x,y\n1,2\n", "neither ASAP XML nor ImageScope XML, NDPA or GeoJSON"),
        ("e.geojson", "", "neither ASAP XML nor"),
    ],
)
def test_an_annotation_without_a_polygon_is_never_silent(
    run, tmp_path, name, text, said
):
    (tmp_path / name).write_text(text)
    slide = write(tmp_path / "a.tif", [on_glass(1024, 1024, 200, 200, 600, 600)])
    tiles = run({"a": (slide, {"annotation": tmp_path / name})})
    (failure,) = tiles.failures
    assert failure["error"] == "BadAnnotation" and said in failure["message"]
    assert "tiled without its annotation" in failure["message"]
    assert tiles.read("a").num_rows


def test_an_ome_tiff_gives_its_physical_size(run, tmp_path):
    plane = on_glass(1024, 1024, 200, 200, 600, 600)
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06"><Image ID="Image:0"><Pixels SizeX="1024" SizeY="1024" '
        'PhysicalSizeX="{}" PhysicalSizeY="{}" {}/></Image></OME>'
    )
    nm = 'PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm"'
    slides = {}
    for name, values in (
        ("um", ("0.5", "0.5", "")),
        ("nm", ("500", "501", nm)),
        ("oblong", ("0.5", "0.7", "")),
    ):
        path = tmp_path / f"{name}.ome.tif"
        tifffile.imwrite(
            path, plane, tile=(256, 256), compression="jpeg", photometric="rgb",
            description=text.format(*values), metadata=None,
        )  # fmt: skip
        assert "openslide.mpp-x" not in raw.OpenSlide(path).properties
        slides[name] = (path, {})
    tiles = run(slides)
    found = {name: record["mpp"] for name, record in tiles.slides.items()}
    assert found == {"um": 0.5, "nm": pytest.approx(0.5005)}
    assert {f[:2] for f in failures(tiles)} == {("oblong", "NoMpp")}


def test_what_no_scanner_makes_is_refused_before_pixels_are_read(
    run, tmp_path, monkeypatch
):
    def read(*_):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(raw.OpenSlide, "read_region", read)
    plane = np.full((8192, 8192, 3), 243, np.uint8)
    big = write(tmp_path / "tile.tif", [plane], tile=8192)
    # 245 x 245 native tiles of 4096 px, all of them missing.
    huge = tmp_path / "plane.tif"
    tifffile.imwrite(
        huge, iter([b""] * 245**2), shape=(1_000_000, 1_000_000, 3), dtype=np.uint8,
        tile=(4096, 4096), compression="jpeg", photometric="rgb", bigtiff=True,
    )  # fmt: skip
    assert huge.stat().st_size < 2e6
    sparse = tmp_path / "sparse.tif"
    tifffile.imwrite(
        sparse, iter([b""] * 74**2), shape=(300_000, 300_000, 3), dtype=np.uint8,
        tile=(4096, 4096), compression="jpeg", photometric="rgb", bigtiff=True,
    )  # fmt: skip
    tiles = run({name.stem: (name, {"mpp": 0.5}) for name in (big, huge, sparse)})
    said = {f["slide_id"]: f["message"] for f in tiles.failures}
    assert {f["error"] for f in tiles.failures} == {"ImplausibleSize"}
    assert {f["kind"] for f in tiles.failures} == {"input"}
    assert "native tiles of 8,192 x 8,192 px" in said["tile"]
    assert "1,000,000 x 1,000,000 px, which no scanner makes" in said["plane"]
    assert "300,000 x 300,000 px" in said["sparse"] and "cannot hold" in said["sparse"]
    assert all("\n" not in message for message in said.values())


def test_a_page_that_claims_more_tiles_than_it_lists_is_openslides(run, tmp_path):
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    path = write(tmp_path / "a.tif", [plane])
    claim_size(path, 2048, 3000)
    tiles = run({"a": (path, {})})
    assert not tiles.failures
    record = tiles.slides["a"]
    assert record["reader"] == "openslide"
    assert "96 native tiles claimed, 64 listed" in record["reader_reason"]
