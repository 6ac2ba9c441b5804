"""``mshisto init``: the files that a study begins with."""

import pytest
import yaml

from mshisto_ray import config as configs
from mshisto_ray import new_study
from mshisto_ray.config import InputError
from mshisto_ray.jobs.run import RunConfig, check
from mshisto_ray.store.cohort import read_cohort


@pytest.fixture
def folder(tmp_path):
    new_study.write(tmp_path / "a study")
    return tmp_path / "a study"


def test_both_files_are_what_run_reads(folder):
    study = configs.load(RunConfig, folder / "study.yaml", {})
    (row,) = read_cohort(folder / "cohort.csv", check_files=False).rows
    assert row.columns[study.target.column] == "tumour"
    text = (folder / "study.yaml").read_text()
    for column in ("path", "slide_id", "patient_id", "label", "mpp", "annotation"):
        assert f"\n#   {column} " in text
    assert {*RunConfig.model_fields} == {*yaml.safe_load(text)}


def test_the_example_row_is_refused_by_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    study = configs.load(RunConfig, folder / "study.yaml", {})
    with pytest.raises(InputError, match=r"row 1 \(EXAMPLE\): no such slide file"):
        check(study)


def test_the_next_commands_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new_study.write(tmp_path / "a study")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"  cd '{tmp_path / 'a study'}'",
        "  mshisto run study.yaml --check",
        "  mshisto run study.yaml",
    ]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    new_study.write(tmp_path / "here")
    assert "cd " not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cohort.csv", "study.yaml"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name}: exists and is kept"):
        new_study.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        new_study.write(tmp_path / "file" / "study")
