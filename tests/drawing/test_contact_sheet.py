import numpy as np
from PIL import Image

from mshisto_ray.drawing.contact_sheet import draw_contact_sheet


def colour(red, size=(200, 150)):
    return Image.new("RGB", size, (red, 0, 0))


def test_every_picture_is_on_the_page_once():
    reds = [100 + 10 * i for i in range(7)]
    page = np.asarray(draw_contact_sheet([(f"s{r}", colour(r)) for r in reds]))
    for red in reds:
        found = (page == (red, 0, 0)).all(-1)
        assert found.sum() == 200 * 150
        rows, cols = np.nonzero(found)
        assert np.ptp(rows) == 149 and np.ptp(cols) == 199


def test_failed_slide_is_a_grey_box_with_its_reason():
    reason = "SlideError: no resolution in the file, " + "x" * 400
    items = [("good", colour(200)), ("bad", reason)]
    page = np.asarray(draw_contact_sheet(items)).astype(int)
    grey = (page == (233, 236, 239)).all(-1)
    rows, cols = np.nonzero(grey)
    box = page[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    assert box.shape[:2] == (200, 200)
    ink = box.sum(-1) < 500
    assert ink.sum() > 200
    assert not ink[:, :4].any() and not ink[:, -4:].any()


def test_page_stays_bounded_however_many_slides():
    picture = colour(200, (400, 400))
    page = draw_contact_sheet([(f"slide {i}", picture) for i in range(1200)])
    assert page.width * page.height < 45_000_000
    red = (np.asarray(page)[::4, ::4] == (200, 0, 0)).all(-1)
    assert red.mean() > 0.5


def test_empty_and_tiny_pictures():
    assert draw_contact_sheet([]).size[0] > 0
    page = np.asarray(draw_contact_sheet([("dot", colour(9, (1, 1))), ("a", "why")]))
    assert (page == (9, 0, 0)).all(-1).sum() == 1
