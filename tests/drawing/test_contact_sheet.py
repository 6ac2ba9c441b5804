import numpy as np
from PIL import Image

from mshisto_ray.drawing.contact_sheet import Cell, draw_contact_sheet
from mshisto_ray.drawing.legend import Key

KEYS = [Key("tissue", (0, 143, 90))]
HEADER_PX = 84


def colour(red, size=(200, 150)):
    return Image.new("RGB", size, (red, 0, 0))


def draw(cells):
    return draw_contact_sheet(cells, "title", KEYS, "text")


def test_every_picture_is_on_the_page_once():
    reds = [100 + 10 * i for i in range(7)]
    page = np.asarray(draw([Cell(f"s{r}", colour(r)) for r in reds]))
    for red in reds:
        found = (page == (red, 0, 0)).all(-1)
        assert found.sum() == 200 * 150
        rows, cols = np.nonzero(found)
        assert np.ptp(rows) == 149 and np.ptp(cols) == 199


def test_failed_slide_is_a_grey_box_with_its_reason():
    reason = "SlideError: no resolution in the file, " + "x" * 400
    page = np.asarray(draw([Cell("good", colour(200)), Cell("bad", reason)]))
    page = page.astype(int)
    grey = (page == (233, 236, 239)).all(-1)
    rows, cols = np.nonzero(grey)
    box = page[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    assert box.shape[:2] == (200, 200)
    ink = box.sum(-1) < 500
    assert ink.sum() > 200
    assert not ink[:, :4].any() and not ink[:, -4:].any()


def test_a_full_page_stays_bounded_and_its_pictures_large():
    picture = colour(200, (340, 340))
    page = draw([Cell(f"slide {i}", picture) for i in range(100)])
    assert page.width * page.height < 15_000_000
    red = (np.asarray(page)[::4, ::4] == (200, 0, 0)).all(-1)
    assert red.mean() > 0.7


def test_a_number_that_warns_is_red_and_leaves_room_for_the_name():
    def label(**number):
        page = draw([Cell("a long name of a slide " * 5, colour(0), **number)])
        return np.asarray(page)[HEADER_PX + 8 : HEADER_PX + 28].astype(int)

    plain, warned = label(number="58%"), label(number="58%", warns=True)
    assert (label() != plain).any() and (plain != warned).any()

    def reddish(part):
        return (part[..., 0] > part[..., 1] + 60).sum()

    assert reddish(warned) > 20 and reddish(plain) == 0


def test_header_holds_the_keys_and_empty_and_tiny_pictures_do():
    assert draw([]).size[0] > 0
    page = np.asarray(draw([Cell("dot", colour(9, (1, 1))), Cell("a", "why")]))
    assert (page == (9, 0, 0)).all(-1).sum() == 1
    assert (page[:HEADER_PX] == (0, 143, 90)).all(-1).any()
