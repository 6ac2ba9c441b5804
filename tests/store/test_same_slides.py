import os
import shutil
import struct

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.dicom import is_dicom, series_uid
from mshisto_ray.store.same_slides import explain_copies

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def element(group, number, kind, value, implicit=False):
    value += b"\x00" * (len(value) % 2)
    tag = struct.pack("<HH", group, number)
    if implicit:
        return tag + struct.pack("<I", len(value)) + value
    if kind in (b"SQ", b"UT"):
        return tag + kind + b"\x00\x00" + struct.pack("<I", len(value)) + value
    return tag + kind + struct.pack("<H", len(value)) + value


def header(series, syntax=EXPLICIT, undefined=False):
    """A DICOM header with a nested series of another slide before its own."""
    implicit = syntax == IMPLICIT
    other = element(0x0020, 0x000E, b"UI", b"9.9.9", implicit)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(other)) + other
    if undefined:
        end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + other + end
    nested = element(0x0008, 0x1115, b"SQ", item, implicit)
    if undefined:
        nested = nested[: -len(item) - 4] + struct.pack("<I", 0xFFFFFFFF) + item
        nested += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return (
        b"\x00" * 128
        + b"DICM"
        + element(0x0002, 0x0010, b"UI", syntax.encode())
        + element(0x0008, 0x0060, b"CS", b"SM", implicit)
        + nested
        + element(0x0020, 0x000E, b"UI", series.encode(), implicit)
        + element(0x0020, 0x0010, b"SH", b"S1", implicit)
    )


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_series_is_that_of_the_file_itself(tmp_path, syntax, undefined):
    path = tmp_path / "a.dcm"
    path.write_bytes(header("1.2.3", syntax, undefined))
    assert series_uid(path) == "1.2.3"
    for size in range(0, len(header("1.2.3", syntax, undefined)) - 20, 7):
        path.write_bytes(header("1.2.3", syntax, undefined)[:size])
        assert series_uid(path) is None


def test_the_series_of_a_real_slide(test_data):
    path = test_data / "slides" / "camelyon_multiframe_jpeg.dcm"
    assert series_uid(path) == (
        "1.3.6.1.4.1.11129.5.7.0.1.517182092386.24422120.1688792467737634"
    )


def cohort(folder, names):
    path = folder / "cohort.csv"
    rows = [f"{name},s{i},p{i}" for i, name in enumerate(names)]
    path.write_text("\n".join(["path,slide_id,patient_id", *rows]))
    return path


def test_both_files_of_a_series_are_refused(tmp_path):
    for name, series in (("a.dcm", "1.2"), ("b.dcm", "1.3"), ("c", "1.2")):
        (tmp_path / name).write_bytes(header(series))
    said = r"slides 's0' and 's2' are one slide \(files of one DICOM series\)"
    with pytest.raises(InputError, match=said):
        read_cohort(cohort(tmp_path, ["a.dcm", "b.dcm", "c"]))
    assert len(read_cohort(cohort(tmp_path, ["a.dcm", "b.dcm"])).rows) == 2


@pytest.mark.parametrize("link", [os.symlink, os.link, None], ids=["soft", "hard", ""])
def test_a_link_beside_its_target_is_refused(tmp_path, link):
    (tmp_path / "a.svs").write_bytes(b"slide")
    if link:
        link(tmp_path / "a.svs", tmp_path / "b.svs")
    table = cohort(tmp_path, ["a.svs", "b.svs" if link else "./x/../a.svs"])
    (tmp_path / "x").mkdir()
    said = r"slides 's0' and 's1' are one slide \(one file\)"
    with pytest.raises(InputError, match=said):
        read_cohort(table)
    assert len(read_cohort(table, check_files=False).rows) == 2


def test_a_folder_of_dicom_files_is_no_slide(tmp_path, test_data):
    (tmp_path / "series").mkdir()
    source = test_data / "slides" / "camelyon_multiframe_jpeg.dcm"
    shutil.copy(source, tmp_path / "series" / "1")
    with pytest.raises(InputError, match="give one file of the series"):
        read_cohort(cohort(tmp_path, ["series"]))


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")
    assert len(read_cohort(cohort(tmp_path, ["pipe"])).rows) == 1


def test_copies_under_two_patients_are_a_problem_and_of_one_a_note():
    keys = {"a": "1", "b": "2", "c": "1", "d": None, "e": None, "f": "2"}
    patients = dict(zip("abcdef", ["p", "q", "r", "s", "t", "q"], strict=True))
    (problem,), (note,) = explain_copies(keys, patients)
    assert problem.startswith("slides 'a', 'c' have the same content and different pa")
    assert "('p', 'r')" in problem and "give them one patient_id" in problem
    assert note == (
        "slides 'b', 'f' have the same content: it counts 2 times; keep one of them"
    )


def test_many_copies_are_counted():
    names = [f"s{i}" for i in range(8)]
    (problem,), _ = explain_copies(dict.fromkeys(names, 1), {n: n for n in names})
    assert problem.count("'s4' and 3 more") == 2
