"""The check of the tile job on cohorts that name one slide twice."""

import os
import shutil

import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import tile


def config(folder, text, **keys):
    path = folder / "cohort.csv"
    path.write_text(text)
    raw = {"cohort": path, "out": folder / "tiles", "tile_px": 64, **keys}
    return configs.validate(tile.TileConfig, raw)


@pytest.fixture
def slides(tmp_path, write_slide):
    write_slide(tmp_path / "a.tiff", 1, size=(700, 700))
    write_slide(tmp_path / "b.tiff", 2, size=(700, 700))
    return tmp_path


def test_a_link_and_its_target_are_refused_before_work(slides):
    os.symlink(slides / "a.tiff", slides / "c.tiff")
    given = config(slides, "path\na.tiff\nb.tiff\nc.tiff\n")
    for job in (tile.check, tile.run):
        with pytest.raises(InputError, match="slides 'a' and 'c' are one slide"):
            job(given)
    assert not (slides / "tiles").exists()


def test_both_files_of_a_dicom_series_are_refused(tmp_path, test_data):
    source = test_data / "slides" / "camelyon_multiframe_jpeg.dcm"
    for name in ("1.dcm", "2.dcm"):
        shutil.copy(source, tmp_path / name)
    with pytest.raises(InputError, match=r"'one' and 'two' .*one DICOM series"):
        tile.check(config(tmp_path, "path,slide_id\n1.dcm,one\n2.dcm,two\n"))
    with pytest.raises(InputError, match="give one file of the series"):
        tile.check(config(tmp_path, "path,slide_id\n.,one\n"))


def test_slides_and_patients_missing_words_and_copies_are_said(
    plain, slides, write_slide, capsys
):
    shutil.copy(slides / "a.tiff", slides / "c.tiff")
    write_slide(slides / "d.tiff", 3, size=(700, 700))
    lines = ["PATH\tPatient_ID\tgrade", "a.tiff\tp1\tNA", "b.tiff\tp1\t2"]
    text = "\n".join([*lines, "c.tiff\tp1\t3", "d.tiff\tNA\t3"])
    tile.run(config(slides, text))
    said = capsys.readouterr().out
    assert "tile: 4 slides, 2 patients in " in said
    assert "column 'grade': 1 rows read as missing ('NA' in 1)" in said
    assert "1 of 4 slides have no patient_id: each is its own patient" in said
    assert "tile: slides 'a', 'c' have the same content: it counts 2 times" in said


def test_copies_under_two_patients_are_refused_before_work(slides):
    """Empty files, as failed copies leave them, are no copies of each other."""
    shutil.copy(slides / "a.tiff", slides / "c.tiff")
    for name in ("d.tiff", "e.tiff"):
        (slides / name).touch()
    given = config(slides, "path\na.tiff\nb.tiff\nc.tiff\nd.tiff\ne.tiff\n")
    with pytest.raises(InputError) as error:
        tile.run(given)
    assert "slides 'a', 'c' have the same content and different" in str(error.value)
    assert "'d'" not in str(error.value)
    assert not (slides / "tiles").exists()


def test_other_names_are_mapped(plain, slides, capsys):
    text = "filename,case_id,level_mpp\na.tiff,p1,0.5\nb.tiff,p1,0.5\n"
    with pytest.raises(InputError, match=r"columns\.path=filename"):
        tile.check(config(slides, text))
    columns = {"path": "filename", "patient_id": "Case_ID", "mpp": "level_mpp"}
    tile.run(config(slides, text, columns=columns))
    assert "tile: 2 slides, 1 patients in " in capsys.readouterr().out
