"""Reports of a small study, made in this process without Ray."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from fixtures.pages import read_page
from mlflow.tracking import MlflowClient
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.jobs import predict, sweep
from mshisto_ray.jobs._predict_report import PredictReport
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._study_config import RunConfig, plan_steps
from mshisto_ray.jobs._study_report import StudyReport
from mshisto_ray.learning.sweep import points
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.mil import experiment
from mshisto_ray.store.failures import Failure, write_failures
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import MANIFEST, open_stage

ODD = "<script>alert(1)</script>"
NAMES = [ODD, *(f"s{i}" for i in range(1, 10))]
SECTIONS = [
    "question", "cohort", "ranking", "result", "decisions", "wrong", "looks", "making",
]  # fmt: skip


def embed(table):
    """Vectors of a slide's tiles, which give its label away."""
    number = NAMES.index(table["slide_id"][0].as_py())
    values = np.random.default_rng(number).normal(size=(table.num_rows, 3))
    return values + np.array([2 * (number % 2), 0, 0])


def write_cohort(folder):
    """Ten slides with a label, one that cannot be read, one without a label."""
    rows = [
        f"{name}.tiff,{name},P{i},{'no' if i % 2 else '<b>yes'}"
        for i, name in enumerate(NAMES)
    ]
    rows += ["gone.tiff,gone,P99,no", "u.tiff,unlabelled,P98,"]
    lines = ["path,slide_id,patient_id,label", *rows]
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")


def write_stages(stages):
    """Tiles and embeddings, as of an encoder with random weights."""
    folder = stages.folder
    stages.tiles(dict.fromkeys(NAMES), side=4)
    message = f"{folder}/gone.tiff: cut short"
    failure = Failure("gone", "tile", "input", "NotASlide", message)
    write_failures(folder / "tiles", [failure])
    stages.embeddings(embed, "embeddings")
    path = folder / "embeddings" / MANIFEST
    network = {"name": "timm", "model": "<i>net", "weights": "random"}
    recorded = {"tiles": str(folder / "tiles"), "encoder": network}
    content = json.loads(path.read_text())
    content["recipe"]["dtype"] = "float32"
    path.write_text(json.dumps(content | {"recorded": recorded}))


@pytest.fixture(scope="module")
def study(plainly, make_stages, tmp_path_factory):
    """A study whose sweep and predictions are done, with two heat maps."""
    folder = tmp_path_factory.mktemp("report")
    write_cohort(folder)
    write_stages(make_stages(folder))
    raw = {
        "cohort": str(folder / "cohort.csv"),
        "out": str(folder),
        "encoder": {"name": "colour_stats"},
        "scales": [0.5, 1.0],
        "axes": {"pooling": ["attention", "embedding_mean"]},
        "split": {"folds": 2},
        "sweep": {"epochs": 1, "hidden": [], "early_stopping": None},
    }
    given = configs.validate(RunConfig, raw)
    steps = plan_steps(given)
    with open_stage(steps.sweep.out, sweep.STAGE, {"stage": sweep.STAGE}, {}):
        pass
    expanded = points.expand(steps.sweep, steps.sweep.axes)
    for digest, point in points.check(expanded, "auroc")[0].items():
        bags, splits = experiment.load(point.config)
        out = sweep_results.folder(steps.sweep.out, digest)
        experiment.run(point.config, bags, splits, out)
    assert sweep.run(steps.sweep) == 0  # all configs are done: no Ray
    with plainly():
        predict.run(steps.predict)
    return given, steps


def draw_looks(out):
    (out / "heatmaps").mkdir(exist_ok=True)
    for name in NAMES:
        for layer in ("attention", "tiles"):
            picture = Image.new("RGB", (90, 60), (200, 90, 150))
            picture.save(out / "heatmaps" / f"{file_name(name)}.{layer}.png")


def study_report(study):
    given, steps = study
    return StudyReport(given, steps, [steps.predict.out])


def test_a_sweep_reports_what_it_was_and_who_took_part(study):
    given, steps = study
    path = steps.sweep.out / "report.html"
    page = read_page(path)
    assert page.sections == [name for name in SECTIONS if name != "looks"]
    assert "RANDOM WEIGHTS" in page.texts[3]
    assert "12" in page.texts and "10" in page.texts  # in the table, in the sweep
    assert (
        "1 x NotASlide (tile, input; 1 slide): gone: gone.tiff: cut short" in page.text
    )
    assert "left out" in page.text and "unlabelled" in page.text
    assert "<b>yes" in page.text and str(given.out) not in page.text
    # The numbers of the summary, in the same words.
    for line in (steps.sweep.out / "summary.md").read_text().splitlines():
        cells = [c.strip("* ") for c in line.split("|") if "(" in c]
        if line.startswith("|"):
            assert all(cell in page.text for cell in cells)
    # Ranking, ROC, precision and recall, confusion; reliability and net benefit.
    assert len(page.pictures) == 5


def test_a_prediction_reports_where_it_looks(study):
    given, steps = study
    before = read_page(steps.predict.out / "report.html")
    sweeps_own = ("ranking", "decisions")
    assert before.sections == [name for name in SECTIONS if name not in sweeps_own]
    assert "none was drawn" in before.text and "NoHeatMap" in before.text
    draw_looks(steps.predict.out)
    (one,) = steps.predict.parts().values()
    report = PredictReport(one, given.out.parent)
    (path,) = write_report("predict", one, one.out, report)
    page = read_page(path)
    assert len(page.pictures) == 3 + 1 + 8 * 2
    assert ODD in page.text or f"Right: {ODD}" not in page.text
    assert "p(predicted)" in page.text or "0 of 10 labelled" in page.text


def test_a_study_reports_all_of_it(study):
    given, _ = study
    (path,) = write_report("run", given, given.out, study_report(study))
    page = read_page(path)
    assert page.sections == SECTIONS
    assert f"mshisto run cohort={given.out.name}/cohort.csv" in page.text
    assert ODD in page.text
    assert path.stat().st_size < 15e6


def test_a_report_is_made_anew_only_when_its_inputs_have_changed(study, capsys):
    given, steps = study
    (path,) = write_report("run", given, given.out, study_report(study))
    state = path.stat().st_mtime_ns
    write_report("run", given, given.out, study_report(study))
    assert path.stat().st_mtime_ns == state
    summary = steps.sweep.out / "summary.md"
    summary.write_text(summary.read_text() + "\nanother\n")
    write_report("run", given, given.out, study_report(study))
    assert path.stat().st_mtime_ns > state
    path.unlink()
    assert write_report("run", given, given.out, study_report(study)) == [path]
    assert path.is_file()


def test_a_fault_is_one_line_and_leaves_no_earlier_report(study, capsys, tmp_path):
    given, _ = study

    class Faulty:
        files = ()

        @property
        def page(self):
            raise RuntimeError("first\nsecond")

    (tmp_path / "report.html").write_text("of an earlier state")
    assert write_report("run", given, tmp_path, Faulty()) == []
    assert capsys.readouterr().out == "run: no report.html: RuntimeError: first\n"
    assert not (tmp_path / "report.html").exists()


def test_reports_are_artifacts_of_their_runs(study):
    given, steps = study
    store = given.runtime.open_store(steps.sweep.out)
    client = MlflowClient(tracking_uri=store.uri)
    runs = client.search_runs([store.experiment_id])
    with_report = {
        run.info.run_name
        for run in runs
        if "report.html" in [a.path for a in client.list_artifacts(run.info.run_id)]
    }
    assert with_report == {"sweep", "predict"}


_COUNTED = """<script>addEventListener("load", () => {
  const all = [...document.images];
  const broken = all.filter(one => !one.naturalWidth).length;
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.found = `${all.length} pictures, ${broken} broken, ${wide}`;
})</script></body>"""


@pytest.mark.slow
def test_a_browser_shows_every_picture_without_an_error(study, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium: apt-get install chromium")
    given, steps = study
    draw_looks(steps.predict.out)
    (path,) = write_report("run", given, given.out, study_report(study))
    num = len(read_page(path).pictures)
    counted = tmp_path / "counted.html"
    counted.write_text(path.read_text().replace("</body>", _COUNTED))
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--enable-logging=stderr", "--window-size=1200,900",
         f"--user-data-dir={tmp_path / 'profile'}", f"file://{counted}"],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert f'data-found="{num} pictures, 0 broken, false"' in done.stdout
    assert "CONSOLE" not in done.stderr
    assert num == 1 + 3 + 1 + 8 * 2
