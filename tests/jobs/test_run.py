"""A study from slides to predictions: checked as a whole, then step by step."""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fixtures.pages import read_page

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import tile
from mshisto_ray.jobs._study_config import plan_steps
from mshisto_ray.jobs.run import RunConfig, check, inspect, run
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort


@pytest.fixture(scope="module")
def slides(tmp_path_factory, write_labelled_slides):
    """Eight labelled slides in cohort.csv; six in part.csv, two in new.csv."""
    folder = tmp_path_factory.mktemp("slides")
    write_labelled_slides(folder, 8, 560)
    lines = (folder / "cohort.csv").read_text().splitlines()
    (folder / "part.csv").write_text("\n".join(lines[:7]) + "\n")
    (folder / "new.csv").write_text("\n".join([lines[0], *lines[7:]]) + "\n")
    return folder


def study(slides, out, **keys):
    raw = {
        "cohort": str(slides / "cohort.csv"),
        "out": str(out),
        "encoder": {"name": "colour_stats"},
        "tile_px": 64,
        "split": {"folds": 2},
    }
    return configs.validate(RunConfig, raw | keys)


def test_a_good_study_is_checked_without_a_trace(slides, tmp_path):
    check(study(slides, tmp_path / "out"))
    new = {"cohort": str(slides / "part.csv"), "new_cohort": str(slides / "new.csv")}
    check(study(slides, tmp_path / "out", **new))
    assert not (tmp_path / "out").exists()


def test_check_opens_the_slides_of_both_cohorts(slides, tmp_path, capsys):
    (slides / "broken.svs").write_bytes(b"not a slide")
    (slides / "broken.csv").write_text("path,label\nbroken.svs,odd\n")
    whole = study(slides, tmp_path / "out", tile={"focus_mpp": None})
    assert inspect(whole) == 0
    assert "8 slides of 8 patients: 8 ok" in capsys.readouterr().out
    keys = {"new_cohort": str(slides / "broken.csv"), "tile": {"focus_mpp": None}}
    assert inspect(study(slides, tmp_path / "out", **keys)) == 2
    printed = capsys.readouterr().out
    assert "9 slides of 9 patients: 8 ok, 0 with a warning, 1 refused" in printed
    assert "tiles: " in printed and not (tmp_path / "out").exists()


def test_parts_too_small_for_both_classes_are_refused(slides, tmp_path):
    """Two patients a class: one is held out, the other set aside for validation."""
    lines = (slides / "cohort.csv").read_text().splitlines()
    (slides / "four.csv").write_text("\n".join(lines[:5]) + "\n")
    said = "class '.*' has no bag .* in the training part.*smaller split.validation"
    with pytest.raises(InputError, match=said):
        check(study(slides, tmp_path / "out", cohort=str(slides / "four.csv")))


def write_unusable(slides, folder, lost):
    """``folder``/cohort.csv, in which three of four odd slides cannot be used."""
    lines = (slides / "cohort.csv").read_text().splitlines()
    assert lines[0] == "path,label"
    rows = [line.split(",") for line in lines[1:]]
    odd = [row for row in rows if row[1] == "odd"]
    table = ["path,label,mpp"]
    for path, label in rows:
        bad = [path, label] in odd[:3]
        mpp = "2.0" if bad and lost == "coarse" else "0.5"
        name = slides / path
        if bad and lost == "missing":
            name = folder / path
            name.write_bytes(b"not a slide")
        table.append(f"{name},{label},{mpp}")
    (folder / "cohort.csv").write_text("\n".join(table) + "\n")


@pytest.mark.parametrize("lost", ["missing", "coarse"])
def test_folds_are_checked_without_the_slides_that_are_refused(
    slides, tmp_path, capsys, lost
):
    """Three of four odd slides cannot be used: found before any tile is made."""
    write_unusable(slides, tmp_path, lost)
    given = study(tmp_path, tmp_path / "out", tile={"focus_mpp": None})
    check(given)
    said = "3 slides will have no tiles at 0.5 um/px.*class 'odd' has no bag"
    with pytest.raises(InputError, match=said) as caught:
        inspect(given)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=said):
        run(given)
    assert not (tmp_path / "out").exists()


def test_a_cohort_without_a_slide_that_can_be_used_is_told_why(slides, tmp_path):
    """As flat images are whose table has no um/px."""
    lines = (slides / "cohort.csv").read_text().splitlines()
    for line in lines[1:]:
        (tmp_path / line.split(",")[0]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / line.split(",")[0]).write_bytes(b"not a slide")
    (tmp_path / "cohort.csv").write_text("\n".join(lines) + "\n")
    said = r"no slide with a label will have tiles at 0\.5 um/px: NotASlide: .*"
    with pytest.raises(InputError, match=said) as caught:
        inspect(study(tmp_path, tmp_path / "out", tile={"focus_mpp": None}))
    assert "validation" not in str(caught.value)


def test_slides_that_join_a_tiled_study_are_checked_too(plain, slides, tmp_path):
    out, keys = tmp_path / "out", {"tile": {"focus_mpp": None}}
    tile.run(plan_steps(study(slides, out, **keys)).tile)
    write_unusable(slides, tmp_path, "coarse")
    with (tmp_path / "cohort.csv").open("a") as file:
        file.write(f"{slides / 'broken.svs'},odd,0.5\n")
    (slides / "broken.svs").write_bytes(b"not a slide")
    with pytest.raises(InputError, match=r"4 slides will have no tiles at 0.5 um/px"):
        run(study(tmp_path, out, **keys))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tile": {"tissu": "stain"}}, "^tile.tissu: unknown key; .*mean tissue?"),
        ({"embed": {"batch_size": 0}}, "^embed.batch_size: .* greater than or equal"),
        ({"sweep": {"epoch": 3}}, "^sweep.epoch: unknown key; .*mean epochs?"),
        ({"predict": {"tiles": "x"}}, "^predict.tiles: run sets it from its own keys"),
        ({"tile": {"tile_px": 9}}, "^tile.tile_px: .*give tile_px outside of the"),
        (
            {"sweep": {"target": {"column": "x"}}},
            "^sweep.target.column: .*give target.column outside of the block",
        ),
        ({"scales": [0.5, 0.7]}, "^scales: 0.7 is not an integer multiple"),
        ({"axes": {"pooling": []}}, "^axes: pooling: give at least one value"),
        ({"axes": {"pooling": ["maxx"]}}, "axes, at pooling=maxx: .*no 'maxx'"),
        ({"axes": {"scale": [0.5, 4.0]}}, "at scale=4.0: scale 4 um/px is not one of"),
        ({"target": {"column": "grade"}}, "no column 'grade'; .*label"),
        (
            {"split": {"folds": 5}},
            "class 'even' has 4 patients, fewer than split.folds",
        ),
        ({"split": {"folds": 2, "validation": 0}}, "no val_ metric to choose"),
        (
            {
                "split": {"folds": 2, "validation": 0},
                "axes": {"pooling": ["attention"]},
            },
            "early stopping needs validation bags",
        ),
        (
            {"sweep": {"decision": {"threshold": {"policy": "youden"}}}}
            | {"split": {"folds": 2, "validation": 0}}
            | {"axes": {"pooling": ["attention"]}},
            "fitted on validation patients, and split.validation is 0",
        ),
        (
            {"sweep": {"reduction": {"name": "pca", "dim": 99}}},
            "sweep, at pooling=embedding_mean: .*99",
        ),
        (
            {"sweep": {"learning_curve": [0.9]}},
            "learning_curve: ",
        ),
        ({"sweep": {"select": None}}, "run predicts with the chosen one"),
        ({"cohort": "/nowhere.csv"}, "no such cohort file"),
        ({"new_cohort": "/nowhere.csv"}, "no such cohort file"),
        (
            {"encoder": {"name": "timm", "model": "test_resnet", "weights": "gone"}},
            "gone",
        ),
    ],
)
def test_every_step_is_checked_before_the_first(slides, tmp_path, keys, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        check(study(slides, tmp_path / "out", **keys))
    assert not (tmp_path / "out").exists()


def test_all_problems_are_listed_at_once(slides, tmp_path):
    keys = {"tile": {"a": 1}, "embed": {"b": 1}, "sweep": {"c": 1}, "predict": {"d": 1}}
    with pytest.raises(InputError) as caught:
        check(study(slides, tmp_path / "out", **keys))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "tile.a",
        "embed.b",
        "sweep.c",
        "predict.d",
    ]


def test_a_slide_of_both_cohorts_is_refused(slides, tmp_path):
    keys = {"new_cohort": str(slides / "new.csv")}
    with pytest.raises(InputError, match=r"2 slides are in .* too \(s6, s7\)"):
        check(study(slides, tmp_path / "out", **keys))
    other = tmp_path / "other.csv"
    other.write_text(f"path,slide_id\n{slides / 's0.tiff'},another\n")
    with pytest.raises(InputError, match=r"'another'.*one file|one file.*'another'"):
        check(study(slides, tmp_path / "out", new_cohort=str(other)))


def _phantom(folder):
    """Ten slides to train on and two new ones, each a patient of its own."""
    settings = PhantomConfig(
        num_patients=12, slides_per_patient=1, size=2048, colour_matched=False, seed=3
    )
    path = write_cohort(settings, folder)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for name, part in (("train.csv", rows[:10]), ("new.csv", rows[10:])):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(part)


@pytest.mark.slow
@pytest.mark.ray
def test_a_study_runs_to_predictions_and_a_second_time_does_no_work(tmp_path):
    _phantom(tmp_path / "slides")
    words = [
        "cohort=slides/train.csv", "new_cohort=slides/new.csv",
        "target.column=label_fine", "encoder=colour_stats", "tile_px=64",
        "split.folds=2", "axes={pooling: [attention, gated_attention]}",
        "sweep={scale: 0.5, epochs: 3}", "out=study",
    ]  # fmt: skip
    first, _ = _run(tmp_path, words)
    out = tmp_path / "study"
    assert "sweep 2 configs over pooling" in first and "out-of-fold auroc" in first
    for name, num in (("predictions", 10), ("new_predictions", 2)):
        predicted = pq.read_table(out / name / "predictions.parquet")
        assert predicted.num_rows == num
        assert not pq.read_table(out / name / "failures.parquet").num_rows
        assert any((out / name / "heatmaps").iterdir())
    page, made = read_page(out / "report.html"), (out / "report.html").stat()
    assert {"ranking", "looks", "new-result", "new-looks"} <= set(page.sections)
    assert len(page.pictures) >= 2 + 3 * 2 + 2 * (4 + 2)
    assert first.split("Look at:\n")[1].lstrip().startswith("all of it")
    assert "what failed" not in first
    assert (out / "mlflow.db").is_file()
    assert not (tmp_path / "mlflow.db").exists()
    assert not (out / "sweep" / "mlflow.db").exists()
    again, ray_files = _run(tmp_path, words)
    for done in ("12 of 12 slides", "12 of 12 chunks", "2 of 2 configs",
                 "10 of 10 bags", "2 of 2 bags"):  # fmt: skip
        assert f"{done} already done" in again
    assert not ray_files  # no Ray was started
    assert (out / "report.html").stat().st_mtime_ns == made.st_mtime_ns
    places = first[first.index("Look at:") :]
    assert again.endswith(places)
    more = [*words, "axes={pooling: [embedding_mean]}"]
    said, _ = _run(tmp_path, more)
    assert "another head is chosen now" in said
    assert said.count("where it looks: no heat maps: the chosen pooling") == 2
    assert "sweep: the only config: pooling=embedding_mean ->" in said
    assert len(list(out.glob("predictions-*"))) == 1


def _run(folder: Path, words: list[str]) -> tuple[str, list[str]]:
    """What the command says, and the files that Ray left."""
    with tempfile.TemporaryDirectory(prefix="mshisto-", dir="/tmp") as ray:
        done = subprocess.run(
            [sys.executable, "-m", "mshisto_ray", "run", *words],
            cwd=folder,
            env={**os.environ, "RAY_TMPDIR": ray},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, os.listdir(ray)
