"""The job on drawn tiles: classes of annotations, tables, points and slides."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.files import read_decision
from mshisto_ray.jobs import _select_tiles, evaluate, tile_head
from mshisto_ray.jobs._evaluate_config import EvaluateConfig
from mshisto_ray.jobs._evaluate_encoders import open_encoders
from mshisto_ray.jobs._select_config import SelectConfig
from mshisto_ray.jobs._select_tables import learned_labels
from mshisto_ray.jobs.tile_head import TileHeadJobConfig
from mshisto_ray.statistics.calibration import fit_platt
from mshisto_ray.statistics.thresholds import for_sensitivity
from mshisto_ray.store.learned_labels import record_patients
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.head import labels
from mshisto_ray.tile_classification.head.files import load_heads
from mshisto_ray.tile_classification.head.run import plan_folds
from mshisto_ray.tile_classification.head.samples import read_samples
from mshisto_ray.tile_classification.head_fold import read_folds

SLIDES = [f"s{i}" for i in range(8)]
# 6 x 6 tiles: the upper half of each slide is tumour, one edge, some bare.
CLASSES = ["tumour"] * 18 + ["edge"] + ["normal"] * 12 + [None] * 5


def embed(table):
    row = table["row"].to_numpy().astype(float)
    col = table["col"].to_numpy().astype(float)
    number = np.full(len(row), float(table["slide_id"][0].as_py()[1:]))
    noise = np.sin(7 * row + 13 * col + number)
    return np.stack([np.where(row < 3, 1.0, -1.0) + 0.2 * noise, col, noise], axis=1)


@pytest.fixture
def stage(stages, tmp_path):
    tiles = stages.tiles(dict.fromkeys(SLIDES, CLASSES))
    embeddings = stages.embeddings(embed, "one", lost=[("s1", 0, 0)])
    return tiles, embeddings, tmp_path


def settings(stage, **keys):
    tiles, embeddings, folder = stage
    raw = {
        "embeddings": embeddings,
        "tiles": tiles,
        "out": folder / "out",
        "target": {"column": "annotation"},
        "split": {"folds": 4, "validation": 0.25},
        "epochs": 8,
        "batch_size": 16,
        "lr": 0.05,
        "noise": {"name": "covariance", "sigma": 0.1},
        "runtime": {"cache": {"dir": folder / "cache", "max_gib": 1}},
    }
    return configs.validate(TileHeadJobConfig, raw | keys)


def by_place(samples):
    names = [samples.features.slide_ids[s] for s in samples.slide]
    classes = [samples.classes[t] for t in samples.target]
    places = map(tuple, samples.place.tolist())
    return {
        (slide, *place): name
        for slide, place, name in zip(names, places, classes, strict=True)
    }


def test_classes_of_annotations(stage):
    found = by_place(read_samples(settings(stage)))
    wanted = {}
    for slide in SLIDES:
        for i, name in enumerate(CLASSES):
            if name != "edge" and (slide, i) != ("s1", 0):
                wanted[slide, i // 6, i % 6] = name or "(unannotated)"
    assert found == wanted
    target = {"column": "annotation", "classes": ["normal", "tumour"]}
    found = by_place(read_samples(settings(stage, target=target)))
    assert set(found.values()) == {"normal", "tumour"}


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_classes_of_a_table(stage, points, kind):
    import pandas as pd

    rows = [(s, 1, c, "ab"[c % 2], f"{s}-{c // 3}") for s in SLIDES for c in range(6)]
    frame = pd.DataFrame(rows, columns=["slide_id", "row", "col", "label", "block"])
    if points:  # two in a tile that agree are one
        frame["x"], frame["y"] = frame["col"] * 100 + 37, frame["row"] * 100 + 99
        frame = pd.concat([frame, frame.head(3)]).drop(columns=["row", "col"])
    path = stage[2] / f"labels.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    target = {"table": path, "group": "block"}
    samples = read_samples(settings(stage, target=target))
    assert by_place(samples) == {(s, 1, c): label for s, _, c, label, _ in rows}
    assert len(samples.groups) == 16
    plan_folds(samples, settings(stage, target=target))


def test_points_in_no_tile_are_counted_and_leave_the_others(stage):
    path = stage[2] / "labels.csv"
    inside = [f"{s},{100 * c},{100 * c + 99},{'ab'[c % 2]}" for s in SLIDES
              for c in range(3)]  # fmt: skip
    lines = ["slide_id,x,y,label", *inside, "s1,90000,10,a", "s1,-3,10,b"]
    path.write_text("\n".join(lines))
    samples = read_samples(settings(stage, target={"table": path}))
    # A point on an edge lies in the tile that begins there; s1 lacks its first tile.
    wanted = {(s, c, c): "ab"[c % 2] for s in SLIDES for c in range(3)}
    del wanted["s1", 0, 0]
    assert by_place(samples) == wanted
    assert samples.notes[0] == (
        "target.table: 3 points of slide 's1' lie in no tile that is embedded at 0.5 "
        "um/px"
    )
    path.write_text("slide_id,x,y,label\ns1,90000,10,a\n")
    with pytest.raises(InputError, match=r"no point lies in a tile: .*1 points of"):
        read_samples(settings(stage, target={"table": path}))


def test_classes_of_slides_and_given_folds(stage):
    cohort = stage[2] / "cohort.csv"
    lines = [f"{s}.tiff,{s},p{i // 2},{'ab'[i % 2]},{i // 4}"
             for i, s in enumerate(SLIDES)]  # fmt: skip
    lines.append("s9.tiff,s9,p9,a,0")
    cohort.write_text("path,slide_id,patient_id,label,fold\n" + "\n".join(lines))
    config = settings(stage, cohort=cohort, target={"column": "label"}, patience=None)
    samples = read_samples(config)
    assert samples.notes == ("1 slides of the cohort are not embedded: s9",)
    # A patient has slides, so tiles, of both classes.
    assert samples.groups == ("p0", "p1", "p2", "p3")
    splits = plan_folds(samples, config)
    assert [set(samples.group[s.test].tolist()) for s in splits] == [{0, 1}, {2, 3}]


def test_the_job_from_check_to_head(stage, capsys):
    config = settings(
        stage, target={"column": "annotation", "unannotated": "leave_out"}
    )
    tile_head.check(config)
    tile_head.run(config)
    said = capsys.readouterr().out
    assert "normal: 96 tiles of 8; tumour: 143 tiles of 8" in said
    assert "'tumour', the second class by name, is the positive one" in said
    assert "target.classes=[tumour, normal] turns" in said
    folder = config.out / "result"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test_auroc_mean"] > 0.95
    table = pq.read_table(folder / "predictions.parquet")
    assert table.num_rows == 239 and "prob_tumour" in table.column_names
    assert len(load_heads(folder / "head").models) == 4
    tile_head.run(config)
    assert "already done" in capsys.readouterr().out


DECISION = {
    "calibration": "platt",
    "threshold": {"policy": "sensitivity", "value": 0.9},
}
TWO = {"column": "annotation", "unannotated": "leave_out"}


def test_decisions_are_kept_in_the_head_and_another_trains_nothing(stage, capsys):
    config = settings(stage, target=TWO, decision=DECISION)
    tile_head.check(config)
    tile_head.run(config)
    folder = config.out / "result"
    validation = config.read_validation(folder)
    kept = read_decision(folder / "head")
    fitted = fit_platt(validation.probabilities, validation.target)
    calibrated = fitted(validation.probabilities)
    given = kept.rules.calibrated(validation.probabilities)
    np.testing.assert_array_equal(given, calibrated)
    wanted = for_sensitivity(calibrated[:, 1], validation.target == 1, 0.9)
    assert kept.rules.threshold == wanted
    assert kept.fitted_on == len(set(validation.patient_id))
    text = (config.out / "summary.md").read_text()
    assert "sensitivity at the threshold (for a sensitivity of 0.9)" in text
    before = (folder / "predictions.parquet").read_bytes()
    capsys.readouterr()
    tile_head.run(settings(stage, target=TWO, decision={"threshold": {"value": 0.3}}))
    assert "already done" in capsys.readouterr().out
    assert read_decision(folder / "head").rules.threshold == 0.3
    assert (folder / "predictions.parquet").read_bytes() == before


def test_a_network_is_compared_on_the_folds_of_a_head_that_decides(stage):
    config = settings(stage, target=TWO, decision=DECISION, learning_curve=[0.4, 0.7])
    tile_head.run(config)
    folds = read_folds(config.out, TileDirectory(stage[0]))
    splits = config.plan(read_samples(config))
    for fold, split in zip(folds, splits, strict=True):
        np.testing.assert_array_equal(fold.split.test, split.test)
    table = pq.read_table(config.out / "result" / "predictions.parquet")
    assert not any(name.startswith("calibrated") for name in table.column_names)


def test_a_curve_is_trained_once(stage, capsys):
    config = settings(stage, target=TWO, learning_curve=[0.4, 0.7])
    tile_head.check(config)
    tile_head.run(config)
    assert "learning curve: 8 more models" in capsys.readouterr().out
    text = (config.out / "summary.md").read_text()
    assert "## Learning curve" in text
    assert (config.out / "learning_curve.png").is_file()
    tile_head.run(config)
    assert "size 0.4: done" not in capsys.readouterr().out


def test_a_result_without_validation_cannot_be_decided_on(stage):
    config = settings(stage, target=TWO)
    tile_head.run(config)
    (config.out / "result" / "validation.parquet").unlink()
    tile_head.check(config)
    with pytest.raises(InputError, match=r"decision: .* of an earlier version"):
        tile_head.check(settings(stage, target=TWO, decision=DECISION))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"decision": {"calibration": "platt"}}, "platt takes two classes, and .* 3"),
        ({"learning_curve": [0.5, 70]}, "learns from 6 patients"),
        ({"tiles": None}, "give tiles=DIR"),
        ({"target": {"column": "label"}}, "this is a column of the cohort"),
        ({"target": {"column": "annotation", "classes": ["tumour", "x"]}},
         r"class 'x' has 0 tile\(s\).* \(tiles have .\(unannotated\)., .*'tumour'"),
        ({"scale": 4.0}, "scale: 4.0 is not in"),
        ({"reduction": {"name": "pca", "dim": 9}}, "pca to 9 needs"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(stage, keys, words):
    with pytest.raises(InputError, match=words):
        tile_head.check(settings(stage, **keys))


def test_a_table_that_cannot_be_used_is_refused(stage):
    path = stage[2] / "labels.csv"
    config = settings(stage, target={"table": path})
    with pytest.raises(InputError, match="no such table"):
        read_samples(config)
    path.write_text("slide_id,row\ns0,1\n")
    with pytest.raises(InputError, match="lacks col, label; it has slide_id, row"):
        read_samples(config)
    path.write_text("slide_id,row,col,label\ns0,1,1,a\ns0,1,1,b\n")
    with pytest.raises(InputError, match="1 tiles have two classes, such as s0 1 1"):
        read_samples(config)
    path.write_text("slide_id,row,col,label\ns0,1,one,a\ns0,1,2,b\n")
    with pytest.raises(InputError, match="'col' has 'one', in 1 of 2 rows no number"):
        read_samples(config)
    path.write_text("slide_id,row,col,label\nt9,1,1,a\n")
    with pytest.raises(InputError, match="no labelled row of an embedded slide"):
        read_samples(config)


def test_a_colour_mode_is_read_named_and_told_apart(stage, stages):
    two = stages.embeddings(embed, "two", gray=lambda table: -embed(table))
    first, gray = (
        read_samples(settings(stage, embeddings=two, colour=colour))
        for colour in (None, "gray")
    )
    rows = np.arange(len(first))
    np.testing.assert_array_equal(gray.read(rows), -first.read(rows))
    assert "colour" not in first.encoder and gray.encoder["colour"] == "gray"
    assert first.digest != gray.digest
    with pytest.raises(InputError, match=r"colour: 'red' is not in .*have rgb, gray"):
        read_samples(settings(stage, embeddings=two, colour="red"))
    view = {"embeddings": str(two), "mpp": 0.5}
    with pytest.raises(InputError, match="colour: of embeddings; each of the views"):
        settings(stage, embeddings=None, views=[view], colour="gray")


def test_labels_that_the_encoder_learned_are_warned_of_in_the_same_words(stage):
    tiles, embeddings, folder = stage
    manifest, part = embeddings / "manifest.json", folder / "trained" / "encoder"
    content = json.loads(manifest.read_text())
    content["recorded"] = {"encoder": {"name": "checkpoint", "path": str(part)}}
    manifest.write_text(json.dumps(content))
    part.parent.mkdir()
    keys = {"embeddings": {"a": embeddings}, "tiles": tiles, "out": folder / "s"}
    select = configs.validate(
        SelectConfig, keys | {"target": {"column": "annotation"}, "scale": 0.5}
    )
    keys = {"encoders": {"a": embeddings}, "tiles": tiles, "out": folder / "e"}
    compared = configs.validate(EvaluateConfig, keys)
    view = {"embeddings": str(embeddings), "mpp": 0.5}
    for known, lines in ((["s1", "s3", "other"], 1), (["other"], 0)):
        recorded = {"recorded": record_patients(known, "random")}
        (part.parent / "manifest.json").write_text(json.dumps(recorded))
        one = read_samples(settings(stage))
        joined = read_samples(settings(stage, embeddings=None, views=[view]))
        plan = evaluate._plan(compared, open_encoders(compared), None)
        found = [one.notes, joined.notes, plan.notes]
        found.append(learned_labels(select, {"a": one}))
        for notes in found:
            own = [note for note in notes if "learned from the labels" in note]
            assert own == [
                f"warning: the encoder of {embeddings} learned from the labels of 2 of "
                "8 patients (s1, s3): tests on them say nothing of new patients"
            ][:lines]  # fmt: skip


def test_encoders_are_compared_by_the_colours_named(stage, stages):
    tiles, _, folder = stage
    two = stages.embeddings(embed, "two", gray=lambda table: np.abs(embed(table)))
    raw = {
        "embeddings": {"rgb": two, "gray": two},
        "colours": {"gray": "gray"},
        "tiles": tiles,
        "target": {"column": "annotation"},
        "out": folder / "select",
        "runtime": {"cache": {"dir": folder / "cache", "max_gib": 1}},
    }
    found = _select_tiles.embedded(configs.validate(SelectConfig, raw))
    ours, theirs = (samples for samples, *_ in found.values())
    rows = np.arange(len(ours))
    np.testing.assert_array_equal(theirs.read(rows), np.abs(ours.read(rows)))
    with pytest.raises(InputError, match="colours: 'red' is not among the embeddings"):
        configs.validate(SelectConfig, raw | {"colours": {"red": "gray"}})


def test_tiles_that_were_not_embedded_are_refused(stage, make_stages, tmp_path):
    def read(slides, **more):
        others = make_stages(tmp_path)
        tiles = others.tiles(dict.fromkeys(slides, CLASSES), name="others")
        return read_samples(settings((tiles, *stage[1:]), **more))

    found = read(SLIDES[:5])
    assert {found.features.slide_ids[s] for s in found.slide} == set(SLIDES[:5])
    assert "3 slides have no class, they are not in" in " ".join(found.notes)
    with pytest.raises(InputError, match=r"tiles: no embedded slide is in .*others"):
        read(["t0", "t1"])
    others = make_stages(tmp_path / "coarse")
    others.tiles(dict.fromkeys(SLIDES, CLASSES))
    of = others.embeddings(embed, "coarse", recipe={"scales": [0.25], "tile_px": 100})
    with pytest.raises(
        InputError, match=r"tiles: .* has no 0\.25 um/px; it has 0\.5, 1"
    ):
        read_samples(settings(stage, embeddings=of))
    of = others.embeddings(embed, "file", prints="another")
    with pytest.raises(InputError, match="is of another file of slides 's0', 's1'"):
        read_samples(settings(stage, embeddings=of))


def test_annotated_tiles_that_lie_elsewhere_are_refused(stage, monkeypatch):
    """Tiles of another size have the same rows and columns at other places."""
    read_corners = labels.read_corners

    def larger(*given):
        found = read_corners(*given)
        return labels.Corners(2 * found.x, 2 * found.y, 2 * found.extent)

    monkeypatch.setattr(labels, "read_corners", larger)
    with pytest.raises(
        InputError, match=r"tiles: most tiles .* give directories of the"
    ):
        read_samples(settings(stage))


def test_what_views_lack_is_listed(stage, stages):
    lacking = stages.embeddings(embed, "two", lost=[("s2", 3, 4)], slides=SLIDES[:6])
    views = [{"embeddings": path, "mpp": 0.5} for path in (stage[1], lacking)]
    given = settings(stage, embeddings=None, views=views)
    tile_head.run(given)
    table = pq.read_table(given.out / "failures.parquet").to_pylist()
    places = [(row["slide_id"], row["row"], row["col"], row["stage"]) for row in table]
    assert places == [
        ("s2", 3, 4, "train"),
        ("s6", None, None, "train"),
        ("s7", None, None, "train"),
    ]
    assert "NoView" in (given.out / "failures.csv").read_text()
