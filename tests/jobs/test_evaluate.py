"""The job on drawn tiles and embeddings: files, table, MLflow, refusals."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import evaluate
from mshisto_ray.jobs.evaluate import EvaluateConfig
from mshisto_ray.reporting import embedding_map
from mshisto_ray.tracking import open_store

CLASSES = ["A"] * 18 + ["B"] * 12 + [None] * 6


def encoder(strength, seed):
    """Noise, with the class of a tile on an axis of its own."""

    def embed(table):
        names = table["annotation"].to_pylist()
        slide = int(table["slide_id"][0].as_py()[1:])
        rng = np.random.default_rng([seed, slide])
        values = rng.normal(size=(len(names), 8))
        for row, name in enumerate(names):
            values[row, {"A": 0, "B": 1}.get(name, 2)] += strength
        return values

    return embed


@pytest.fixture(scope="module")
def raw(make_stages, tmp_path_factory):
    """A config with both baselines given, so that nothing has to be embedded."""
    folder = tmp_path_factory.mktemp("evaluate")
    stages = make_stages(folder)
    tiles = stages.tiles({f"s{i:02}": CLASSES for i in range(11)})
    made = {
        name: str(stages.embeddings(encoder(strength, seed), name))
        for seed, (name, strength) in enumerate(
            {"strong": 5, "weak": 1, "colours": 0.5, "drawn": 0}.items()
        )
    }
    return {
        "encoders": {"strong": made["strong"], "weak": made["weak"]},
        "baselines": {"colour_stats": made["colours"], "random": made["drawn"]},
        "tiles": str(tiles),
        "out": str(folder / "out"),
        "near_um": 60,
        "far_um": 200,
    }


@pytest.fixture(scope="module")
def out(raw):
    return run(raw)


def run(raw):
    config = configs.validate(EvaluateConfig, raw)
    evaluate.check(config)
    evaluate.run(config)
    return config.out


def test_writes_scores_differences_and_neighbours(out):
    metrics = pq.read_table(out / "metrics.parquet").to_pandas()
    own = metrics[metrics["minus"].isna()]
    assert set(own["encoder"]) == {"strong", "weak", "colour_stats", "random"}
    score = own.set_index(["encoder", "metric"])["value"]
    assert score["strong", "hit_at_1"] > score["weak", "hit_at_1"]
    gap = metrics[metrics["minus"].notna()].set_index(["encoder", "minus", "metric"])
    row = gap.loc["strong", "random", "hit_at_1"]
    assert row["low"] > 0
    want = score["strong", "hit_at_1"] - score["random", "hit_at_1"]
    assert row["value"] == pytest.approx(want)
    assert len(gap.index.droplevel("metric").unique()) == 6

    told = json.loads((out / "metrics.json").read_text())
    assert told["chance"]["auc_label"] == 0.5
    ranks = [r for r in told["metrics"] if r["metric"] == "effective_rank"]
    assert len(ranks) == 4 and all(r["low"] is None for r in ranks)

    table = pq.read_table(out / "neighbours.parquet").to_pandas()
    assert (table["slide_id"] != table["found_slide_id"]).all()
    first = table[(table["encoder"] == "strong") & (table["rank"] == 1)]
    hit = (first["class"] == first["found_class"]).groupby(first["class"]).mean().mean()
    assert hit == pytest.approx(score["strong", "hit_at_1"])

    text = (out / "summary.md").read_text()
    assert "| encoder | hit_at_1 | majority_at_5 | map_at_10 |" in text
    assert "A 198, B 132" in text and "95 % bootstrap over 11 patients" in text
    assert (
        text.index("| strong |") < text.index("| random |") < text.index("| chance |")
    )
    assert "| strong - random | **+0." in text
    assert "## hit_at_1 by class" in text and "| encoder | A | B |" in text


def test_logs_a_run_per_encoder_under_one(out):
    store = open_store(None, out, "mshisto_ray")
    client = store.client
    runs = client.search_runs([store.experiment_id])
    (parent,) = [r for r in runs if r.info.run_name == "evaluate"]
    children = {
        r.info.run_name: r.data.metrics
        for r in runs
        if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert set(children) == {"strong", "weak", "colour_stats", "random"}
    found = children["weak"]
    assert found["hit_at_1_ci_low"] < found["hit_at_1"] < found["hit_at_1_ci_high"]
    files = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert files == {"summary.md", "metrics.json", "metrics.parquet"}


def test_the_same_questions_again_are_the_same_answers_others_are_refused(
    raw, out, capsys
):
    first = (out / "metrics.json").read_text()
    capsys.readouterr()
    run(raw)
    assert (out / "metrics.json").read_text() == first
    said = capsys.readouterr().out
    assert (out / "summary.md").read_text() in said
    # The drawn slides have no files.
    assert "no slide can be read from here: no pictures" in said
    assert not (out / "queries").exists()
    with pytest.raises(InputError, match=r"another recipe .depth: 10 -> 5"):
        run(raw | {"depth": 5})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"queries": ["C"]}, r"no tile is of class 'C'; have A \(198 tiles\), B"),
        ({"scale": 3.0}, r"has no 3 um/px; have \[0.5, 1.0\]"),
        ({"encoders": {"random": "x"}}, "'random' is reserved: give embeddings of the"),
        ({"encoders": {}}, "encoders: give at least 1, not 0"),
        (
            {"encoders": {"x": "nowhere"}},
            "nowhere: no manifest.json; this is no embeddings",
        ),
        ({"exclude": {"by": "site"}}, "this is a column of the cohort; give cohort="),
        ({"exclude": {"by": "block", "block_um": 1e5}, "queries": None,
          "slides": 1}, "slides: unknown key"),
        ({"label": {"column": "grade"}}, "give cohort=TABLE"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_before_work(raw, change, said):
    with pytest.raises(InputError, match=said) as caught:
        evaluate.check(configs.validate(EvaluateConfig, raw | change))
    assert "\n" not in str(caught.value)


def test_other_tiles_are_refused_before_work(raw, make_stages, tmp_path):
    stages = make_stages(tmp_path)
    stages.tiles({"s00": CLASSES})
    other = {"scales": [0.5, 1.0], "tile_px": 64}
    path = stages.embeddings(encoder(1, 0), "other", recipe=other)
    changed = {"encoders": {"other": str(path)}, "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match=r"other: .* embeds other tiles than"):
        run(raw | changed)
    assert not (tmp_path / "out").exists()


def test_maps_without_umap_are_refused_before_work(raw, monkeypatch):
    monkeypatch.setattr(embedding_map.importlib.util, "find_spec", lambda name: None)
    config = configs.validate(EvaluateConfig, raw | {"embedding_map": True})
    with pytest.raises(InputError, match="UMAP is not installed: pip install"):
        evaluate.check(config)


def test_without_classes_only_pairs_of_places_are_scored(raw, out, tmp_path):
    places = run(raw | {"label": {"column": None}, "out": str(tmp_path / "places")})
    text = (places / "summary.md").read_text()
    assert "(no class) 396" in text
    assert "No queries: only pairs of places are scored." in text
    asked = {}
    for folder in (out, places):
        table = pq.read_table(folder / "metrics.parquet").to_pandas()
        asked[folder] = table[table["minus"].isna()].set_index(["encoder", "metric"])
    found = set(asked[places].index.get_level_values("metric"))
    recalls = {"parent_recall_at_1", "parent_recall_at_10"}
    assert found == {"addr_spatial", "auc_spatial", "effective_rank", *recalls}
    assert pq.read_table(places / "neighbours.parquet").num_rows == 0
    score = asked[places].loc[("strong", "auc_spatial")]
    assert score["low"] < score["value"] < score["high"]


def test_no_query_and_no_pair_is_refused(raw, tmp_path):
    nothing = {"label": {"column": None}, "far_um": 9e5, "scale": 1.0}
    nothing["out"] = str(tmp_path / "no")
    with pytest.raises(InputError, match="these tiles have neither"):
        run(raw | nothing)
    assert not (tmp_path / "no").exists()
