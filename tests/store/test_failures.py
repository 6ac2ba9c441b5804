import csv

import pyarrow.parquet as pq

from mshisto_ray.store.failures import Failure, reasons, write_failures


def lacks(slide_id, mpp):
    message = f"/scans/{slide_id}.svs: scanned at {mpp} um/px, too coarse for 0.5 um/px"
    return Failure(slide_id, "tile", "input", "NoScale", message, mpp=0.5)


def test_the_csv_holds_what_the_parquet_holds(tmp_path):
    odd = 'a "quoted", comma\nand a new line'
    failures = [
        lacks("b", 1.2),
        Failure("a", "embed", "crash", "Crash", odd, 1, 0.5, 2, 3),
    ]
    write_failures(tmp_path, failures)
    rows = pq.read_table(tmp_path / "failures.parquet").to_pylist()
    with (tmp_path / "failures.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [
        {k: "" if v is None else str(v) for k, v in row.items()} for row in rows
    ] == found
    write_failures(tmp_path, [])
    assert len((tmp_path / "failures.csv").read_text().splitlines()) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"failures.csv", "failures.parquet"}


def test_reasons_that_differ_in_names_and_numbers_are_one():
    failures = [lacks(f"s{i}", 1 + i / 7) for i in range(12)]
    lost = [Failure("s0", "embed", "input", "BadTile", f"at {i}, {i}") for i in (1, 2)]
    torn = Failure("s1", "embed", "input", "BadTile", "cut short")
    found = reasons([*lost, torn, *failures])
    assert found == [
        "12 x NoScale (tile, input; 12 slides): for example s0: /scans/s0.svs: scanned "
        "at 1.0 um/px, too coarse for 0.5 um/px",
        "2 x BadTile (embed, input; 1 slide): for example s0: at 1, 1",
        "1 x BadTile (embed, input; 1 slide): s1: cut short",
    ]
    assert reasons([]) == []


def test_names_count_as_names_and_not_as_letters():
    def changed(name):
        text = f"a table of {name} bits"
        return Failure(name, "tile", "input", "SlideChanged", text)

    assert len(reasons([changed("slide_x"), changed("slide_y")])) == 1
    same = [Failure(name, "tile", "input", "E", "a table of bits") for name in "abt"]
    assert len(reasons(same)) == 1


def test_many_reasons_end_with_a_count():
    failures = [Failure("s", "tile", "crash", f"Error{c}", "why") for c in "abcdefghij"]
    found = reasons(failures)
    assert len(found) == 9
    assert found[-1] == "2 more failures of other reasons: see failures.csv"
