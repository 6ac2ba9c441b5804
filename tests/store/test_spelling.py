import pytest

from mshisto_ray.store.spelling import canonical_number, explain_clashes, find_clashes


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.0", "0"),
        ("-0.0", "0"),
        ("0", "0"),
        ("1.", "1"),
        ("1.50", "1.5"),
        ("-1.50", "-1.5"),
        ("10", "10"),
        ("10.0", "10"),
        ("007", "007"),
        ("1.2.0", "1.2.0"),
        ("pT1.0", "pT1.0"),
        ("123456789012345678.0", "123456789012345678"),
    ],
)
def test_numbers_have_one_form(text, wanted):
    assert canonical_number(text) == wanted


@pytest.mark.parametrize(
    "pair",
    [
        ("P00", "p00"),
        ("001", "1"),
        ("P 01", "P01"),
        ("P-007", "P-7"),
        ("A01B", "A1b"),
        ("12.0", "12"),
        ("1.50", "01.5"),
        ("Straße", "STRASSE"),
        ("é", "e\u0301"),
        ("P\u200b1", "P1"),
        ("P-1", "P\u20131"),
        ("TCGA-A1", "TCGA_A1"),
        ("0,50", "0.5"),
    ],
)
def test_spellings_of_one_name(pair):
    assert find_clashes([*pair, "other", pair[0]]) == [tuple(sorted(pair))]
    (line,) = explain_clashes("patient_id", pair)
    assert repr(pair[0]) in line and repr(pair[1]) in line


@pytest.mark.parametrize(
    "pair",
    [
        ("P0", "P00x"),
        ("10", "1"),
        ("100", "10"),
        ("1.05", "1.5"),
        ("0", "00a"),
        ("-1", "1"),
        ("P-1", "P1"),
        ("a_1", "a1"),
        ("123456789012345678", "123456789012345679"),
    ],
)
def test_different_names(pair):
    assert find_clashes(pair) == []


def test_many_clashes_are_counted():
    names = [f"{letter}{n}" for n in range(10, 20) for letter in "pP"]
    lines = explain_clashes("patient_id", names)
    assert len(lines) == 6 and lines[-1] == "patient_id: 5 more of this kind"
