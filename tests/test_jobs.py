"""Jobs as a user types them: every YAML checks, every mistake is one clear line."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml

from mshisto_ray import __main__ as command

JOBS = Path(__file__).parents[1] / "jobs"
SCRIPTS = sorted(path.stem for path in JOBS.glob("*.py"))


@pytest.fixture
def job(monkeypatch, capfd):
    """Runs a job's script as __main__ in this process: (exit code, stdout, stderr)."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(JOBS / f"{name}.py"), run_name="__main__")
        said = capfd.readouterr()
        return stopped.value.code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("jobs") / "a.tiff"
    pixels = np.full((512, 512, 3), 240, np.uint8)
    pixels[100:400, 100:400] = (200, 120, 180)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            pixels,
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
        )
    return path


def cohort(folder, text):
    path = folder / "cohort.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_only_parse_build_and_run(name):
    assert len((JOBS / f"{name}.py").read_text().splitlines()) <= 20
    assert (JOBS / f"{name}.yaml").is_file()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_key_of_the_yaml(job, name):
    code, out, _ = job(name, "--help")
    assert code == 0
    for key in yaml.safe_load((JOBS / f"{name}.yaml").read_text()) or {}:
        assert f"  {key}" in out


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_key_is_refused_with_the_known_ones(job, name):
    code, _, err = job(name, JOBS / f"{name}.yaml", "no_such_key=1")
    assert code == 2
    assert "no_such_key: unknown key; known: " in err


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_submitted_job_refuses_a_relative_output(job, name, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    code, _, err = job(name, JOBS / f"{name}.yaml", "out=results")
    assert code == 2
    assert "give an absolute path on shared storage" in err


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_command_takes_the_words_that_the_script_takes(capfd, name):
    with pytest.raises(SystemExit) as ended:
        command.main([name, f"{name}.yaml", "no_such_key=1"])
    assert ended.value.code == 2
    assert "no_such_key: unknown key; known: " in capfd.readouterr().err


STUDIES = {
    "ilse2018_musk": "no musk1.parquet in",
    "ilse2018_mnist_bags": "no mnist.npz in",
    "ilse2018_breast": "cohort.csv",
    "ilse2018_colon": "no colon_bags27.npz in",
    "tan2023": "no cohort.csv in",
    "nivaggioli2023": "no task.yaml in",
    "gildenblat2019": "no tiles in",
    "tcga_rna": "no cohort_<cancer>.csv in",
}


def test_every_other_yaml_is_tested_by_name():
    others = {path.stem for path in JOBS.glob("*.yaml")} - set(SCRIPTS)
    presets = {name for name in others if name.startswith("pretrain_")}
    assert others - presets == {*STUDIES, "musk1"}


@pytest.mark.parametrize(("name", "said"), STUDIES.items())
def test_studies_are_right_up_to_their_data(job, tmp_path, name, said):
    words = f"data={tmp_path}", f"out={tmp_path / 'out'}", "--check"
    code, _, err = job("reproduce", JOBS / f"{name}.yaml", *words)
    assert code == 2 and said in err


def test_musk1_is_a_sweep_of_six_poolings(job, tmp_path):
    bags = np.repeat(np.arange(40), 2)
    table = {"bag": bags, "label": bags % 2, "features": np.ones((80, 3)).tolist()}
    pq.write_table(pa.table(table), tmp_path / "bags.parquet")
    words = f"bags={tmp_path / 'bags.parquet'}", f"out={tmp_path / 'out'}", "--check"
    code, printed, _ = job("sweep", JOBS / "musk1.yaml", *words)
    assert code == 0 and len(yaml.safe_load(printed)["axes"]["pooling"]) == 6


def test_check_prints_the_resolved_config_and_writes_nothing(job, slide, tmp_path):
    path = cohort(tmp_path, f"path\n{slide}\n")
    out = tmp_path / "out"
    code, printed, _ = job(
        "tile", JOBS / "tile.yaml", f"cohort={path}", f"out={out}", "tile_px=128",
        "--check",
    )  # fmt: skip
    assert code == 0
    resolved = yaml.safe_load(printed)
    assert resolved["tile_px"] == 128
    assert resolved["tissue"]["smooth_um"] == 12.0
    assert resolved["out"] == str(out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("table", "words", "said"),
    [
        (None, [], "no such cohort file"),
        ("", [], "empty file; a cohort needs a header"),
        ("path\n", [], "the cohort has no rows"),
        ("path\ngone.svs\n", [], "no such slide file"),
        ("path,case_id\n{slide},x\n", [], "give columns.patient_id=case_id"),
        ("path,mpp\n{slide},0.5,x\n", [], "row 1 has 3 cells and the header 2"),
        ("path\n{slide}\n{slide}\n", [], "slide_id 'a' is used in 2 rows"),
        ("path\n{slide}\n", ["scales=[0.5, 0.7]"], "0.7 is not an integer multiple"),
        ("path\n{slide}\n", ["tissue={name: magic}"], "no 'magic' in tissue_masks"),
        (
            "path\n{slide}\n",
            ["tile_px=big"],
            "tile_px: Input should be a valid integer",
        ),
        ("path\n{slide}\n", ["nonsense"], "'nonsense' is not key=value"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(
    job, slide, tmp_path, table, words, said
):
    path = tmp_path / "cohort.csv"
    if table is not None:
        cohort(tmp_path, table.format(slide=slide))
    out = tmp_path / "out"
    code, _, err = job("tile", f"cohort={path}", f"out={out}", *words)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ") and said in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no slide", "NotASlide"), ("blank", "NoTissue")],
)
def test_slides_that_give_nothing_end_the_job_with_3_and_a_reason(
    job, local_ray, tmp_path, content, reason
):
    path = tmp_path / "x.tiff"
    if content == "blank":
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                np.full((512, 512, 3), 240, np.uint8),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )
    else:
        path.write_bytes(content)
    table, out = "path\nx.tiff\n", tmp_path / "out"
    code, _, err = job("tile", f"cohort={cohort(tmp_path, table)}", f"out={out}")
    assert code == 3
    assert "error: 1 of 1 slides gave no tile" in err
    (row,) = pq.read_table(out / "failures.parquet").to_pylist()
    assert row["error"] == reason
