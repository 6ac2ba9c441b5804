"""A page of every block: well-formed, escaped, whole."""

import base64
import io

import numpy as np
from fixtures.pages import read_page
from PIL import Image

from mshisto_ray.reporting.page import blocks
from mshisto_ray.reporting.page.images import MAX_BYTES, photograph
from mshisto_ray.reporting.page.render import read_made_from, render

BAD = "<script>alert(1)</script>&\"'{{ 7 * 7 }}"


def picture(path, size=(64, 48)):
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_every_text_is_escaped(tmp_path):
    source = photograph(picture(tmp_path / "a.png"))
    everything = [
        blocks.Text(BAD, "warning"),
        blocks.Items([BAD], BAD),
        blocks.Facts([(BAD, BAD)]),
        blocks.Table([BAD], [[BAD], ["x"]], BAD, BAD, marked={1}),
        blocks.Figures([blocks.Figure(source, BAD, BAD)], 2, BAD),
        blocks.Code([BAD]),
    ]
    section = blocks.Section("one", BAD, everything)
    page = blocks.Page(BAD, BAD, [section], [(BAD, BAD, BAD)], [BAD])
    path = tmp_path / "report.html"
    path.write_text(render(page, 'a "digest"'))
    found = read_page(path)
    assert found.texts.count(BAD) == found.text.count("alert(1)") == 21
    assert found.sections == ["one"] and len(found.pictures) == 1
    assert read_made_from(path) == 'a "digest"'


def test_what_is_no_page_was_made_from_nothing(tmp_path):
    assert read_made_from(tmp_path / "absent") is None
    (tmp_path / "other").write_bytes(b"\xff\xfe\x00")
    assert read_made_from(tmp_path / "other") is None


def test_a_large_picture_is_made_small(tmp_path):
    path = picture(tmp_path / "noise.png", (2000, 500))
    content = photograph(path).split(",", 1)[1]
    assert len(content) <= MAX_BYTES * 4 / 3 + 4
    small = photograph(path, 200).split(",", 1)[1]
    with Image.open(io.BytesIO(base64.b64decode(small))) as image:
        assert image.format == "JPEG" and max(image.size) == 200
