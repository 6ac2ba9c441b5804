"""The README's first command; the truth that it plants has to be found."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "out"
    command = [sys.executable, str(ROOT / "jobs" / "quickstart.py"), f"out={out}"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    return command, out, first.stdout


def test_gated_attention_beats_the_mean_and_finds_the_planted_tiles(quickstart):
    _, _, said = quickstart
    low = re.search(r"gated attention against .* \[(-?[\d.]+), ", said)
    assert low and float(low[1]) > 0
    found = re.search(r"attention against the planted tiles, .*: ([\d.]+) ", said)
    assert found and float(found[1]) > 0.7


def test_everything_it_names_is_there(quickstart):
    _, out, said = quickstart
    assert "mlflow ui --backend-store-uri sqlite:" in said
    for name in (
        "tiles/contact_sheet/page-001.jpg",
        "sweep/summary.md",
        "sweep/best/model.json",
    ):
        assert (out / name).stat().st_size > 0
    drawn = {path.name for path in (out / "predictions" / "heatmaps").iterdir()}
    slides = {name.split(".")[0] for name in drawn}
    assert len(slides) == 8
    endings = ("attention.png", "tiles.png", "geojson")
    assert drawn == {f"{slide}.{ending}" for slide in slides for ending in endings}
    for stage in ("tiles", "embeddings", "predictions"):
        assert not pq.read_table(out / stage / "failures.parquet").num_rows
    assert len(list((out / "sweep" / "configs").iterdir())) == 12


def test_again_it_does_no_work_and_prints_the_same(quickstart):
    command, _, said = quickstart
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "48 of 48 slides already done" in again.stdout
    assert "12 of 12 configs already done" in again.stdout
    assert "8 of 8 bags already done" in again.stdout
    truth = "gated attention against embedding mean"
    line = next(x for x in said.splitlines() if x.startswith(truth))
    assert line in again.stdout


def test_other_slides_are_refused_in_the_same_folder(quickstart):
    command, _, _ = quickstart
    other = [*command, "witness_rate=0.1"]
    done = subprocess.run(other, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "witness_rate: 0.03 -> 0.1" in done.stderr
