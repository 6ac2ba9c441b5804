"""The pages of the contact sheet, from shards and overviews as a run leaves them."""

import os
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mshisto_ray.jobs import _contact_sheet
from mshisto_ray.jobs._contact_sheet import ContactSheet, page_path
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling.unit import overview_path

NAMES = [f"s{i}" for i in range(7)]


def finish_slide(out, name, reason=None, coverage=0.9, red=200):
    failure = {"mpp": None, "error": "NoMpp", "message": reason}
    slide = None if reason else {"coverage": [[0.5, 0.95], [1.0, coverage]]}
    metadata = {"slide": slide, "failures": [failure] if reason else []}
    write_shard(shard_path(out, name), [pa.table({"n": [1]})], metadata)
    if not reason:
        path = overview_path(out, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (320, 260), (red, 0, 0)).save(path)


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(_contact_sheet, "PAGE_SLIDES", 3)
    for name in NAMES:
        finish_slide(tmp_path, name, "no resolution" if name == "s2" else None)
    return tmp_path


def sheet(out, names=NAMES, pending=()):
    rows = [CohortSlide(n, n, Path(n), None, None, {}) for n in names]
    return ContactSheet(out, rows, (0.5, 1.0), pending)


def times(out):
    return {p.name: p.stat().st_mtime_ns for p in (out / "contact_sheet").iterdir()}


def test_pages_of_slides_in_order_and_no_page_is_made_twice(out):
    (out / "contact_sheet.png").write_bytes(b"of an earlier version")
    pages = sheet(out).finish()
    assert [p.name for p in pages] == ["page-001.jpg", "page-002.jpg", "page-003.jpg"]
    assert pages[0] == page_path(out, 0) and not (out / "contact_sheet.png").exists()
    with Image.open(pages[1]) as image:
        assert image.format == "JPEG" and image.width >= 900
    before = times(out)
    sheet(out).finish()
    assert times(out) == before


@pytest.mark.parametrize("change", ["coverage", "reason", "picture", "damage"])
def test_only_a_page_whose_slides_have_changed_is_made_again(out, change):
    sheet(out).finish()
    before = times(out)
    if change == "coverage":
        finish_slide(out, "s4", coverage=0.5)
    elif change == "reason":
        finish_slide(out, "s4", reason="no tissue")
    elif change == "picture":
        path = overview_path(out, "s4")
        Image.new("RGB", (300, 260)).save(path)
        os.utime(path, ns=(1, 1))
    else:
        page_path(out, 1).write_bytes(b"no picture")
    sheet(out).finish()
    after = times(out)
    assert {n for n in after if after[n] != before[n]} == {"page-002.jpg"}


def test_a_page_is_made_when_its_last_pending_slide_is_done(out):
    pages = sheet(out, pending=["s0", "s1", "s6"])
    pages.add("s0")
    assert not page_path(out, 0).exists()
    pages.add("s6")
    assert page_path(out, 2).exists() and not page_path(out, 0).exists()
    pages.add("s1")
    assert page_path(out, 0).exists() and not page_path(out, 1).exists()


def test_a_smaller_cohort_has_fewer_pages(out):
    sheet(out).finish()
    assert sheet(out, NAMES[:3]).finish() == [page_path(out, 0)]
    assert times(out).keys() == {"page-001.jpg"}


def test_a_slide_without_a_shard_is_said_to_be_missing(out):
    pages = sheet(out, [*NAMES, "s9"]).finish()
    assert len(pages) == 3 and pages[2].exists()
