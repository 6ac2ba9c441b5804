"""The notebook of docs/: its outputs are saved, small, and those that it has today."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell):
    """What a cell shows, as text."""
    parts = [out.get("text") or out.data.get("text/plain", "") for out in cell.outputs]
    return "".join(parts)


def test_it_is_saved_as_it_ran_from_top_to_bottom():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {out.output_type for cell in cells for out in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert NOTEBOOK.stat().st_size < 300_000
    assert "/tmp" not in NOTEBOOK.read_text()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_it_runs_and_shows_what_is_saved(tmp_path):
    saved = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    made = code_cells(runpy.run_path(str(ROOT / ".ci" / "notebook"))["run"](tmp_path))
    for before, now in zip(saved, made, strict=True):
        if "run(" in before.source:  # progress and its times
            assert text(now).splitlines()[-1] == text(before).splitlines()[-1]
        elif "fit(bags" in before.source:
            numbers = [re.findall(r"\d\.\d+", text(cell)) for cell in (before, now)]
            first, second = ([float(n) for n in row] for row in numbers)
            assert second == pytest.approx(first, abs=0.02)
    (found,) = [t for cell in made if "planted tiles are" in (t := text(cell))]
    hits, planted = re.search(r": (\d+) of the (\d+) planted", found).groups()
    assert int(hits) >= int(planted) / 2
