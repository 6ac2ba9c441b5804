"""Tables as laboratories have them: 40 slides, 20 patients, 4 folds, 2 labels."""

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.columns import ColumnsConfig

HEADER = ["path", "slide_id", "patient_id", "label", "fold"]


def rows(change=lambda i, row: row):
    """Rows of the table, each as ``change(number, {column: cell})`` makes it."""
    made = []
    for i in range(40):
        p = i // 2
        cells = (f"{i}.svs", f"s{i:02}", f"P{p:02}", f"{'neg' if p % 2 else 'pos'}")
        made.append(change(i, dict(zip(HEADER, [*cells, str(p % 4)], strict=True))))
    return made


def write(folder, made, rename=None, delimiter=","):
    names = [(rename or {}).get(name, name) for name in made[0]]
    lines = [delimiter.join(names), *(delimiter.join(row.values()) for row in made)]
    path = folder / "cohort.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def read(table, **columns):
    return read_cohort(table, False, ColumnsConfig(**columns))


def num_patients(cohort):
    return len({row.patient_id for row in cohort.rows})


@pytest.mark.parametrize("name", ["Patient_ID", "PATIENT_ID", "patient_Id"])
def test_reserved_names_match_in_any_case(tmp_path, name):
    upper = {n: n.upper() for n in HEADER}
    cohort = read(write(tmp_path, rows(), upper | {"patient_id": name}))
    assert cohort.summary == "40 slides, 20 patients"
    assert cohort.rows == read(write(tmp_path, rows(), {"label": "LABEL"})).rows
    assert cohort.column_names == ["LABEL", "fold"]
    assert cohort.column("label") == cohort.column("LABEL")
    assert cohort.find("Fold") == "fold" and cohort.find("grade") is None


@pytest.mark.parametrize(
    "name",
    ["patient", "PATIENT", "Patient ID", "PatientID", "case_id", "Case", "subject",
     "Subject ID", "participant", "donor_id", "bcr_patient_barcode", "MRN",
     "Pt. No", "Patient UUID", "id_patient", "num_patient", "Pseudonym", "USUBJID",
     "Pat.-Nr.", "TCGA_ID", "anonymised patient id", "Hospital number", "cases.case_id",
     "patient_id_hash"],
)  # fmt: skip
def test_other_names_of_patients_are_refused_or_mapped(tmp_path, name):
    path = write(tmp_path, rows(), {"patient_id": name})
    said = rf"column '{name}' looks like patient_id.*columns\.patient_id={name}"
    with pytest.raises(InputError, match=said):
        read(path)
    cohort = read(path, patient_id=name.upper())
    assert num_patients(cohort) == 20 and name in cohort.column_names


@pytest.mark.parametrize(
    ("name", "alias"),
    [("path", "filename"), ("path", "File Path"), ("path", "image"),
     ("slide_id", "slide"), ("slide_id", "image_id")],
)  # fmt: skip
def test_other_names_of_slides_are_refused_or_mapped(tmp_path, name, alias):
    path = write(tmp_path, rows(), {name: alias})
    with pytest.raises(InputError, match=rf"columns\.{name}={alias}"):
        read(path)
    assert read(path, **{name: alias}).rows[3].slide_id == "s03"


def test_a_column_is_taken_for_one_thing(tmp_path):
    path = write(tmp_path, rows(), {"path": "image_path", "slide_id": "image"})
    with pytest.raises(InputError) as found:
        read(path)
    path_line, slide_line = str(found.value).splitlines()
    assert "columns.path=image_path" in path_line
    assert "columns.slide_id=image " in slide_line
    lacking = write(tmp_path, rows(), {"path": "image", "slide_id": "name"})
    with pytest.raises(InputError) as found:
        read(lacking)
    assert "columns.path=image " in str(found.value)
    assert "slide_id" not in str(found.value)


@pytest.mark.parametrize(
    "name",
    ["patient_age", "case_control", "slide_quality", "image_type", "pathology", "pT"],
)
def test_attributes_are_no_identities(tmp_path, name):
    path = write(tmp_path, rows(), {"patient_id": name})
    cohort = read(path)
    assert name in cohort.column_names and num_patients(cohort) == 40
    assert any("no column patient_id: each slide is its own" in n for n in cohort.notes)


def test_a_mapped_column_takes_the_place_of_the_reserved_one(tmp_path):
    def change(i, row):
        return row | {"case": f"C{i // 4}"}

    path = write(tmp_path, rows(change))
    assert num_patients(read(path)) == 20  # `case` may be anything beside patient_id
    assert num_patients(read(path, patient_id="case")) == 10
    by_case = read(path, fold="case").column("fold")
    assert set(by_case.values()) == {f"C{i}" for i in range(10)}
    with pytest.raises(InputError, match=r"columns\.mpp: no column 'res'; have path"):
        read(path, mpp="res")


def test_two_columns_of_one_name_are_refused(tmp_path):
    made = rows(lambda i, row: row | {"PATIENT_ID": "x", "Label": "y"})
    path = write(tmp_path, made, {"patient_id": "Patient_Id"})
    with pytest.raises(InputError, match="'Patient_Id' and 'PATIENT_ID' differ only"):
        read(path)
    assert num_patients(read(path, patient_id="Patient_Id")) == 20
    path = write(tmp_path, rows(lambda i, row: row | {"Patient_ID": "x"}))
    with pytest.raises(InputError, match="'patient_id' and 'Patient_ID' differ only"):
        read(path)
    cohort = read(write(tmp_path, rows(lambda i, row: row | {"Label": "y"})))
    assert cohort.column("Label")["s00"] == "y" and cohort.column("label")["s00"] != "y"
    with pytest.raises(InputError, match="'label' and 'Label' differ only by case"):
        cohort.column("LABEL")


@pytest.mark.parametrize("key", ["slide_id", "patient_id"])
@pytest.mark.parametrize(
    ("first", "second"), [("P00", "p00"), ("001", "1"), ("P 1", "P1"), ("7.0", "7")]
)
def test_ids_in_two_spellings_are_refused(tmp_path, key, first, second):
    def change(i, row):
        return row | {key: [first, second][i]} if i < 2 else row

    path = write(tmp_path, rows(change))
    with pytest.raises(InputError) as caught:
        read(path)
    assert f"{key}: " in str(caught.value)
    assert repr(first) in str(caught.value) and repr(second) in str(caught.value)


@pytest.mark.parametrize("key", ["slide_id", "patient_id"])
def test_ids_that_a_spreadsheet_has_rounded_are_refused(tmp_path, key):
    path = write(tmp_path, rows(lambda i, r: r | {key: "1.23457E+11"} if i < 1 else r))
    with pytest.raises(InputError, match=rf"{key} '1.23457E\+11' .*column as text"):
        read(path)
    write(tmp_path, rows(lambda i, r: r | {key: "1E11"} if i < 1 else r))
    assert len(read(path).rows) == 40


def test_outer_spaces_do_not_make_a_patient(tmp_path):
    path = write(
        tmp_path, rows(lambda i, r: r | {"patient_id": f" {r['patient_id']} "})
    )
    assert num_patients(read(path)) == 20


@pytest.mark.parametrize("word", ["NA", "nan", "None", "N/A", "NULL", ""])
def test_a_slide_without_patient_is_its_own(tmp_path, word):
    path = write(tmp_path, rows(lambda i, r: r | {"patient_id": word} if i < 6 else r))
    cohort = read(path)
    assert num_patients(cohort) == 17 + 6
    assert [row.patient_id for row in cohort.rows[:6]] == [f"s{i:02}" for i in range(6)]
    assert any("6 of 40 slides have no patient_id" in note for note in cohort.notes)
    assert any(f"{word!r} in 6" in note for note in cohort.notes) == bool(word)


@pytest.mark.parametrize("word", ["unknown", "-", "?"])
def test_a_patient_that_may_be_none_is_said(tmp_path, word):
    path = write(tmp_path, rows(lambda i, r: r | {"patient_id": word} if i < 6 else r))
    cohort = read(path)
    assert num_patients(cohort) == 17 + 1
    said = f"6 slides have the patient_id {word!r} and count as one patient"
    assert any(said in note for note in cohort.notes)


def test_a_slide_is_not_the_patient_of_other_rows(tmp_path):
    def change(i, row):
        return row | {"patient_id": ["NA", "S00"][i]} if i < 2 else row

    with pytest.raises(InputError, match=r"slide_id 's00' has no patient_id.*'S00'"):
        read(write(tmp_path, rows(change)))


@pytest.mark.parametrize("word", ["NA", "nan", "None", "N/A", "NULL", "null"])
def test_missing_labels_are_no_class(tmp_path, word):
    cohort = read(
        write(tmp_path, rows(lambda i, r: r | {"label": word} if i < 4 else r))
    )
    labels = cohort.column("label")
    assert set(labels.values()) == {None, "neg", "pos"}
    (note,) = cohort.notes
    assert f"column 'label': 4 rows read as missing ({word!r} in 4)" in note


def test_numbers_of_one_value_are_one_label(tmp_path):
    def change(i, row):
        return row | {"label": ["0", "1", "0.0", "1.0", "1.50", "1.5"][i % 6]}

    cohort = read(write(tmp_path, rows(change)))
    assert set(cohort.column("label").values()) == {"0", "1", "1.5"}


@pytest.mark.parametrize(
    "pair", [("NEG", "neg"), ("01", "1"), ("low grade", "lowgrade")]
)
def test_labels_in_two_spellings_are_refused(tmp_path, pair):
    cohort = read(write(tmp_path, rows(lambda i, r: r | {"label": pair[i % 2]})))
    with pytest.raises(InputError) as caught:
        cohort.column("label")
    assert repr(pair[0]) in str(caught.value) and repr(pair[1]) in str(caught.value)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_read(tmp_path, delimiter):
    cohort = read(write(tmp_path, rows(), delimiter=delimiter))
    assert cohort.rows == read(write(tmp_path, rows())).rows


def test_ids_may_hold_a_slash_and_not_be_endless(tmp_path):
    path = write(tmp_path, rows(lambda i, r: r | {"slide_id": f"S23/{i:04}"}))
    assert read(path).rows[7].slide_id == "S23/0007"
    path = write(tmp_path, rows(lambda i, r: r | {"slide_id": f"{i:02}" + "x" * 220}))
    with pytest.raises(InputError, match="too long for a file's name: 222 bytes"):
        read(path)


def test_a_decimal_comma_is_explained(tmp_path):
    path = write(tmp_path, rows(lambda i, r: r | {"mpp": "0,5"}), delimiter=";")
    with pytest.raises(InputError, match=r"'0,5' is not a number.*write 0\.5"):
        read(path)
