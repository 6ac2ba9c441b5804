"""The command ``mshisto`` as a user types it."""

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mshisto_ray import __main__ as command
from mshisto_ray import shipped

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


@pytest.fixture
def mshisto(capfd):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def run(*words):
        capfd.readouterr()
        code = 0
        try:
            command.main([*map(str, words)])
        except SystemExit as ended:
            code = ended.code
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def test_help_and_mistakes_do_not_wait_for_torch_and_ray():
    code = (
        "import sys\n"
        "from mshisto_ray.__main__ import main\n"
        "main(['--help'])\n"
        "try:\n"
        "    main(['tyle'])\n"
        "except SystemExit as ended:\n"
        "    heavy = {'torch', 'ray', 'mlflow', 'numpy'} & set(sys.modules)\n"
        "    sys.exit(f'{ended.code} {sorted(heavy)}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("Multi-scale computational pathology on Ray.\n")
    assert done.stderr == "error: no job 'tyle'; did you mean tile?\n2 []\n"


def test_the_overview_has_a_line_for_every_job(mshisto):
    code, out, _ = mshisto()
    assert code == 0 and mshisto("--help")[1] == out
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    for name in ["init", *JOBS]:
        (line,) = [words for words in lines if words[:1] == [name]]
        assert len(line[1]) > 20
    assert max(map(len, out.splitlines())) <= 88


def test_help_of_a_job_says_how_it_is_typed(mshisto):
    code, out, _ = mshisto("quickstart", "--help")
    assert code == 0
    assert "usage: mshisto quickstart [CONFIG.yaml] [key=value ...]" in out


def test_benchmark_takes_its_part_as_a_word(mshisto):
    code, out, _ = mshisto("benchmark", "retrieve", "--check")
    assert code == 0 and "name: retrieve" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import-h5"], "no job 'import-h5'; did you mean import_h5?"),
        (["xyz"], "no job 'xyz'; have init, run, tile, embed"),
        (["tile.yaml"], "no job 'tile.yaml'; did you mean tile?"),
        (["tile", "mine.yaml"], "mine.yaml: no such config file"),
        (["tile", "folder/tile.yaml"], "folder/tile.yaml: no such config file"),
        (["tile", "tile_px"], "tile_px: no such config file"),
        (["init"], "init: name one folder; usage: mshisto init FOLDER"),
        (["init", "out=a"], "init: name one folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(mshisto, words, said):
    code, out, err = mshisto(*words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ") and said in line


def test_a_name_finds_the_file_here_then_the_one_that_comes_with_it(
    mshisto, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    _, out, _ = mshisto("quickstart", "quickstart.yaml", "--check")
    assert "num_patients: 40" in out
    (tmp_path / "quickstart.yaml").write_text("num_patients: 44\n")
    _, out, _ = mshisto("quickstart", "quickstart.yaml", "--check")
    assert "num_patients: 44" in out


def test_version_and_entry_point(mshisto):
    assert mshisto("--version")[:2] == (0, "mshisto 0.1.0\n")
    (point,) = entry_points(group="console_scripts", name="mshisto")
    assert point.load() is command.main


def test_a_pipe_that_closes_is_no_traceback():
    line = f"{sys.executable} -m mshisto_ray --help | true"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.slow
def test_the_wheel_holds_the_configs_and_runs(tmp_path):
    build = ["uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), ROOT]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    inside = tmp_path / "site" / "mshisto_ray" / "configs"
    names = {path.name for path in (ROOT / "jobs").glob("*.yaml")}
    assert {path.name for path in inside.iterdir()} == names
    assert not (tmp_path / "site" / "jobs").exists()
    words = [sys.executable, "-m", "mshisto_ray", "sweep", "sweep.yaml", "--check"]
    done = subprocess.run(
        words, cwd=tmp_path / "site", capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "cohort.csv: no such cohort file" in done.stderr


def test_in_a_checkout_the_configs_are_those_of_jobs():
    assert shipped.folder() == ROOT / "jobs"
