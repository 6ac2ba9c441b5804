import pandas as pd
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.cohort import read_cohort


def write(folder, text, files=()):
    for name in files:
        (folder / name).write_bytes(b"slide")
    path = folder / "cohort.csv"
    path.write_text(text)
    return path


def test_only_path_is_required(tmp_path):
    cohort = read_cohort(write(tmp_path, "path\na.svs\nb.svs\n", ["a.svs", "b.svs"]))
    first = cohort.rows[0]
    assert (first.slide_id, first.patient_id, first.mpp) == ("a", "a", None)
    assert first.path == tmp_path / "a.svs"
    assert cohort.column_names == []


def test_other_columns_are_text_and_empty_is_none(tmp_path):
    text = "path,patient_id,mpp,grade,fold\na.svs,p1,0.5,2,0\nb.svs,p1,,,1\n"
    cohort = read_cohort(write(tmp_path, text, ["a.svs", "b.svs"]))
    assert cohort.column("grade") == {"a": "2", "b": None}
    assert [row.mpp for row in cohort.rows] == [0.5, None]
    with pytest.raises(InputError, match=r"no column 'stage'.*grade, fold"):
        cohort.column("stage")


def test_parquet_gives_the_same_as_csv(tmp_path):
    csv = write(tmp_path, "path,label\na.svs,1\nb.svs,\n", ["a.svs", "b.svs"])
    parquet = tmp_path / "cohort.parquet"
    frame = pd.DataFrame({"path": ["a.svs", "b.svs"], "label": [1.0, None]})
    frame.to_parquet(parquet)
    assert read_cohort(parquet).rows == read_cohort(csv).rows


def test_every_problem_is_listed(tmp_path):
    text = (
        "path,slide_id,mpp,annotation\n"
        "a.svs,x,,\n"
        "gone.svs,gone,,\n"
        "a.svs,same,fast,\n"
        "b.svs,same,-1,gone.xml\n"
        ",empty,,\n"
    )
    with pytest.raises(InputError) as caught:
        read_cohort(write(tmp_path, text, ["a.svs", "b.svs"]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    for part in (
        "slides 'x' and 'same' are one slide",
        "row 2 (gone): no such slide file",
        "row 3 (same): mpp 'fast' is not a number",
        "row 4 (same): mpp '-1' must be above 0",
        "row 4 (same): no such annotation",
        "row 5: path is empty",
        "slide_id 'same' is used in 2 rows",
    ):
        assert any(part in line for line in lines), part


def test_addresses_are_refused_by_name(tmp_path):
    (tmp_path / "c.csv").write_text("path\ns3://bucket/a.svs\nfile:///b.svs\n")
    with pytest.raises(InputError) as error:
        read_cohort(tmp_path / "c.csv")
    lines = str(error.value).splitlines()
    assert "row 1 (a): 's3://bucket/a.svs': s3 is not supported" in lines[0]
    assert "file is not supported; give the path of a mounted" in lines[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty file"),
        ("path\n", "the cohort has no rows"),
        ("slide,label\na.svs,1\n", "no column 'path'; have slide, label"),
    ],
)
def test_unusable_tables(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_cohort(write(tmp_path, text))


def test_unreadable_tables(tmp_path):
    with pytest.raises(InputError, match="no such cohort file"):
        read_cohort(tmp_path / "none.csv")
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(InputError, match="not a readable CSV or Parquet"):
        read_cohort(path)
