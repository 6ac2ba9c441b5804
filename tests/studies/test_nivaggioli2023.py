"""The study on small phantom tasks, and its published tables from their units."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import embed, reproduce
from mshisto_ray.jobs.reproduce import ReproduceConfig
from mshisto_ray.learning.tile_metrics import tile_metrics
from mshisto_ray.studies import nivaggioli2023
from mshisto_ray.studies._nivaggioli2023_measured import (
    Measured,
    _over_repeats,
    difference,
)
from mshisto_ray.studies._nivaggioli2023_table import TablePlan, _against, render

PUBLISHED = Path(__file__).parents[2] / "published" / "nivaggioli2023"
PLAN = {
    "tasks": ["sign", "plain"],
    "encoders": ["colour", "other"],
    "encoder": "colour",
    "proxy": "sign",
    "deep": ["plain"],
    "sigma": 0.5,
    "noise_tasks": ["sign"],
    "noises": ["gaussian", "covariance"],
    "sigmas": [0.5],
    "decays": [0.1],
    "hidden": 8,
}


def as_keys(plan: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in plan.items()}


@pytest.fixture(scope="module")
def data(phantom, tmp_path_factory, plainly):
    """Two tasks on the tiles of one folder; the second one has no context."""
    folder = tmp_path_factory.mktemp("nivaggioli")
    (folder / "phantom").mkdir()
    (folder / "phantom" / "tiles").symlink_to(phantom / "tiles")
    encoder = {"name": "colour_stats"}
    made = folder / "phantom" / "embeddings"
    raw = {"tiles": phantom / "tiles", "out": made / "colour", "encoder": encoder}
    with plainly():
        embed.run(configs.validate(embed.EmbedConfig, raw))
    shutil.copytree(made / "colour", made / "other")
    rows = ["slide_id,row,col,label"]
    for file in sorted((phantom / "tiles" / "shards").glob("*.parquet")):
        table = pq.read_table(file).to_pandas()
        table = table[table.own & (table.mpp == 0.5)]
        for label, part in (
            ("sign", table[table.annotation == "fine_sign"].head(6)),
            ("none", table[table.annotation.isna()].head(12)),
        ):
            rows += [f"{r.slide_id},{r.row},{r.col},{label}" for r in part.itertuples()]
    common = {
        "folder": "phantom",
        "scale": 0.5,
        "target": {"classes": ["none", "sign"]},
        "split": {"folds": 2, "repeats": 2, "validation": 0.3},
    }
    for name, more in (("sign", {"context": 2.0}), ("plain", {})):
        (folder / name).mkdir()
        (folder / name / "labels.csv").write_text("\n".join(rows) + "\n")
        (folder / name / "task.yaml").write_text(yaml.safe_dump(common | more))
    network = {
        "model": {"backbone": "test_resnet"},
        "run": {"precision": "float32"},
        "batch_size": 4,
        "steps": 2,
        "gamma": 2.0,
        "best": "val_balanced_accuracy",
        "validation": {"every": 1, "tiles": 20},
    }
    (folder / "finetune.yaml").write_text(yaml.safe_dump(network))
    return folder


def run(data, out, **plan):
    study = {"name": "nivaggioli2023", **PLAN, **plan}
    raw = {"study": study, "data": data, "out": out}
    config = configs.validate(ReproduceConfig, raw)
    reproduce.check(config)
    reproduce.run(config)
    return (out / "table.md").read_text()


@pytest.mark.slow  # trains two networks on pixels
def test_all_tables_are_made_and_differences_are_paired(data, tmp_path, capsys):
    text = run(data, tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out" / "units").glob("*.json")}
    regular = ("0", "0.5", "covariance-0.5", "0-decay0.1")
    assert names == {
        "sign.colour-proxy-0.5", "sign.other-proxy-0.5",
        "sign.colour-single-0.5", *(f"sign.colour-multi-{r}" for r in regular),
        "plain.colour-single-0.5", "plain.other-single-0.5",
        "plain.finetuned-0", "plain.finetuned-1",
    }  # fmt: skip
    tables = text.split("\nTable ")
    assert len(tables) == 4 and all("| " in table for table in tables)
    # A row of each arm: in table 3 a network, and two views where there is context.
    methods = re.findall(r"\| (sign|plain) \| ([a-z ,]+) \|", tables[1])
    assert methods == [
        ("sign", "head, single zoom"), ("sign", "head, multi zoom"),
        ("plain", "fully trained"), ("plain", "head, single zoom"),
    ]  # fmt: skip
    # Both encoders are the same here: there is no difference, and no interval of one.
    assert "| .000 (.000 to .000) |" in tables[0] and "| .000 (" in tables[2]
    noises = re.findall(r"\| multi zoom \| ([a-z0-9., ]+) \|", tables[3])
    assert noises == [
        "none", "gaussian 0.5", "covariance 0.5", "none, weight decay 0.1"
    ]  # fmt: skip
    # The network and the head are tested on the same tiles.
    parts = [
        pq.read_table(tmp_path / "out" / "units" / f"plain.{name}.parquet").to_pandas()
        for name in ("finetuned-0", "finetuned-1", "colour-single-0.5")
    ]
    assert set(parts[2].repeat) == {0, 1} and set(parts[0].repeat) == {0}
    deep, head = {*parts[0].bag, *parts[1].bag}, set(parts[2].bag)
    assert deep == head and not set(parts[0].bag) & set(parts[1].bag)
    values = [
        tile_metrics(
            part[["prob_none", "prob_sign"]].to_numpy(),
            (part.target == "sign").to_numpy().astype(int),
            np.unique(part.patient_id, return_inverse=True)[1],
        ).values["pr_auc"]
        for _, part in parts[2].groupby("repeat")
    ]
    value = np.mean(values)
    row = next(r for r in tables[1].splitlines() if "plain | head" in r)
    assert f"{value:.3f}"[1:] in row and "with embedding)" in row
    capsys.readouterr()
    run(data, tmp_path / "out")  # nothing is made again
    assert "11 of 11 units already done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"tasks": ["sign", "plain", "absent"]}, "data: no task.yaml in .*absent"),
        (
            {"proxy": "lung"},
            r"study\.proxy: 'lung' is none of study.tasks: sign, plain",
        ),
        ({"deep": ["lung"]}, r"study\.deep: 'lung' is none of study.tasks"),
        ({"noise_tasks": ["lung"]}, r"study\.noise_tasks: 'lung' is none"),
        ({"noises": ["salt"]}, "study.noises: no 'salt' in noises; have augmentation"),
        ({"noises": ["augmentation"]}, "study.noises: augmentation.path: Field requi"),
        ({"encoder": "resnet"}, "encoder is one of encoders"),
    ],
)
def test_what_does_not_fit_is_refused(data, plan, message):
    keys = as_keys(PLAN | plan)
    with pytest.raises(InputError, match=message):
        nivaggioli2023.build(data, **keys)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no units are published")
def test_published_tables_are_those_of_their_units():
    plan = json.loads((PUBLISHED / "plan.json").read_text())
    plan = TablePlan(**as_keys(plan))
    done = {}
    for file in (PUBLISHED / "units").glob("*.json"):
        done[file.stem] = reproduce._read(file, json.loads(file.read_text()))
    assert render(plan, done) == (PUBLISHED / "table.md").read_text()


def test_one_group_a_class_has_values_and_no_intervals():
    classes = np.repeat([0, 1], 4)
    scores = {
        "good": np.linspace(0.1, 0.9, 8),
        "bad": np.array([0.1, 0.2, 0.8, 0.9, 0.3, 0.4, 0.6, 0.7]),
    }
    arms = {}
    for name, score in scores.items():
        metrics = tile_metrics(np.stack([1 - score, score], 1), classes, classes)
        arms[name] = Measured(metrics, {"pr_auc": 0.01}, ("tile",), 1.0, 1.0)
    rows = _against(arms, "good", ["pr_auc"], "pr_auc")
    assert rows[0] == ["good", "1.000", ".010", ""]
    # The other's positives have ranks 3, 4, 5, 6: (1/3 + 2/4 + 3/5 + 4/6) / 4.
    assert rows[1] == ["bad", ".525", ".010", "-.475"]


def test_intervals_hold_repeats_and_their_pairs():
    """Heads of one repeat share its folds: what it adds to all of them cancels."""
    rng = np.random.default_rng(0)
    target, group = np.tile([0, 1], 300), np.arange(600) // 10
    signals = rng.normal(size=(4, 600)) + 1.2 * target
    signals += np.array([0, 0.5, 1, 1.5])[:, None] * target  # repeats differ a lot

    def arm(extra):
        parts = [
            tile_metrics(np.stack([-s, s], 1), target, group)
            for s in signals + extra * target
        ]
        return parts, Measured(_over_repeats(parts), {}, ("tile",), 1.0, 1.0)

    parts, one = arm(0.0)
    own = np.std([p.values["auroc"] for p in parts], ddof=1) / 2
    groups = np.mean([p.replicates["auroc"] for p in parts], axis=0).std()
    # The variance of groups' draws plus that of a mean of four repeats.
    found = one.metrics.replicates["auroc"].std()
    assert found == pytest.approx(np.hypot(own, groups), rel=0.1)
    other = arm(0.1)[1]
    text = difference(other, one, "auroc")
    low, high = (float(x) for x in re.findall(r"-?\.\d+", text)[1:])
    assert low > 0 and high - low < found
    single = _over_repeats(parts[:1])
    assert np.array_equal(single.replicates["auroc"], parts[0].replicates["auroc"])
