import pandas as pd
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.table import read_table

ROWS = "path,label\na.svs,höchst\nb.svs,x\n"
WANTED = {"path": ["a.svs", "b.svs"], "label": ["höchst", "x"]}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_dialect_gives_the_same_cells(tmp_path, encoding, delimiter, ending):
    path = tmp_path / "t.csv"
    text = ROWS.replace(",", delimiter).replace("\n", ending)
    path.write_bytes(text.encode(encoding))
    table = read_table(path, "cohort")
    assert table.columns == WANTED and table.num_rows == 2


def test_parquet_and_its_index_column(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"path": ["a", "b"], "grade": [1.0, None]})
    frame.set_index("path").to_parquet(path)
    assert read_table(path, "cohort").columns == {
        "grade": ["1", None],
        "path": ["a", "b"],
    }


def test_quotes_blank_lines_and_short_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\n"path, of slide";label\n"a;b.svs";" x "\n;\n\nc.svs\n')
    found = read_table(path, "cohort").columns
    assert found == {"path, of slide": ["a;b.svs", "c.svs"], "label": ["x", None]}


def test_an_index_that_pandas_wrote_is_no_column(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"path": ["a.svs"]}).to_csv(path)
    assert read_table(path, "cohort").columns == {"path": ["a.svs"]}


def test_missing_words_are_counted(tmp_path):
    words = ["NA", "na", "nan", "NaN", "None", "N/A", "NULL", "null", "<NA>", "#REF!"]
    words += ["(null)", "\\N", "#N/A N/A", "n.a"]
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join(["path,label", *(f"{i}.svs,{w}" for i, w in enumerate(words)), "u,"])
    )
    table = read_table(path, "cohort")
    assert table.columns["label"] == [None] * (len(words) + 1)
    assert table.words["label"] == dict.fromkeys(words, 1)
    (note,) = table.notes(table.columns)
    assert "'label': 14 rows read as missing ('NA' in 1, " in note


def test_what_excel_keeps_as_text_is_its_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('patient_id,label\n="007",a\n"=""007""",b\n007,c\n')
    assert read_table(path, "cohort").columns["patient_id"] == ["007"] * 3


@pytest.mark.parametrize("word", ["unknown", "nano", "-", "0", "no", "negative"])
def test_other_words_are_values(tmp_path, word):
    path = tmp_path / "t.csv"
    path.write_text(f"label,more\n{word},x\n")
    assert read_table(path, "cohort").columns["label"] == [word]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "path\nMüller.svs\n".encode("latin-1"),
            "line 2 is not text in utf-8.*Latin-1",
        ),
        (b"PK\x03\x04rest", "Excel workbook.*save the table as CSV in UTF-8"),
        (b"\x1f\x8brest", "compressed"),
        (b"path,label\na.svs,x,y\n", r"row 1 has 3 cells and the header 2.*quotes"),
        (b"path,label,label\na,b,c\n", "'label' more than once"),
        (b"\n \n", "empty file"),
        ("path,label\na,b\n".encode("utf-32"), "another encoding than UTF-8"),
        (b"path,label\na\x00,b\n", "damaged or in another"),
        (b'path,label\na.svs,"x\nb.svs,y\n', "not a readable CSV.*unexpected end"),
    ],
)
def test_unreadable_tables_name_the_fix(tmp_path, data, said):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_table(path, "cohort")


def test_the_first_line_of_excel(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\npath;label\na.svs;x,y\n")
    assert read_table(path, "cohort").columns == {"path": ["a.svs"], "label": ["x,y"]}


def test_a_space_before_a_quoted_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('path, label\na.svs, "x, y"\n')
    assert read_table(path, "cohort").columns["label"] == ["x, y"]
