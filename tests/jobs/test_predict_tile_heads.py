"""Heads on tiles applied to slides, alone, of views, and several in one pass."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import predict, tile_head
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import read_metadata, write_shard

SLIDES = [f"s{i}" for i in range(6)]
NEW = ["n0", "n1"]
# 6 x 6 tiles: the upper half of each slide is tumour.
CLASSES = ["tumour"] * 18 + ["normal"] * 18


def embed(table):
    row = table["row"].to_numpy().astype(float)
    col = table["col"].to_numpy().astype(float)
    number = np.full(len(row), float(table["slide_id"][0].as_py()[1:]))
    noise = np.sin(7 * row + 13 * col + number)
    return np.stack([np.where(row < 3, 1.0, -1.0) + noise, col, noise**2], axis=1)


def other(table):
    return 3 * embed(table)[:, :2] + 1


@pytest.fixture(scope="module")
def study(make_stages, tmp_path_factory, plainly):
    folder = tmp_path_factory.mktemp("several")
    stages = make_stages(folder)
    tiles = stages.tiles(dict.fromkeys(SLIDES + NEW, CLASSES))
    embeddings = stages.embeddings(embed, "one"), stages.embeddings(other, "two")
    (folder / "known.csv").write_text("path\n" + "".join(f"{s}.tiff\n" for s in SLIDES))
    rows = [f"{s}.tiff" for s in SLIDES + NEW]
    (folder / "all.csv").write_text("\n".join(["path", *rows]) + "\n")
    views = [
        {"embeddings": embeddings[1], "mpp": 1.0},
        {"embeddings": embeddings[0], "mpp": 0.5},
    ]
    for name, keys in {
        "near": {"embeddings": embeddings[0]},
        "deep": {"embeddings": embeddings[0], "hidden": [4]},
        "views": {"views": views},
    }.items():
        raw = {
            "tiles": tiles,
            "cohort": folder / "known.csv",
            "out": folder / name,
            "target": {"column": "annotation"},
            "split": {"folds": 3, "validation": 0, "repeats": 2},
            "patience": None,
            "epochs": 2,
            "batch_size": 16,
            "lr": 0.05,
            "runtime": {"cache": {"max_gib": 0}},
            **keys,
        }
        tile_head.run(configs.validate(tile_head.TileHeadJobConfig, raw))
    return folder, embeddings


def run(study, out, **keys):
    folder, embeddings = study
    raw = {"embeddings": embeddings[0], "cohort": folder / "all.csv", "out": out}
    config = configs.validate(predict.PredictConfig, {**raw, **keys})
    predict.check(config)
    predict.run(config)
    return config


def head(study, name):
    return study[0] / name / "result" / "head"


def out_of_fold(folder, name):
    """Mean over repeats of a tile's probability of tumour."""
    table = pq.read_table(folder / name / "result" / "predictions.parquet").to_pandas()
    return table.groupby(["slide_id", "row", "col"]).prob_tumour.mean()


def check_scores(study, out, name):
    known = out_of_fold(study[0], name)
    for slide_id in SLIDES:
        shard = pq.read_table(out / "shards" / f"{slide_id}.parquet").to_pandas()
        wanted = known.loc[slide_id].loc[zip(shard.row, shard.col, strict=True)]
        np.testing.assert_allclose(shard.instance_tumour, wanted, atol=1e-6)
    table = pq.read_table(out / "predictions.parquet").to_pandas().set_index("bag")
    assert list(table.index) == SLIDES + NEW
    for slide_id in SLIDES:
        mean = known.loc[slide_id].mean()
        assert table.loc[slide_id].prob_tumour == pytest.approx(mean, abs=1e-6)


def test_a_known_slide_gets_what_the_tile_head_gave_it_out_of_fold(
    plain, study, tmp_path
):
    run(study, tmp_path / "out", head=head(study, "near"))
    check_scores(study, tmp_path / "out", "near")


def test_a_head_of_views_reads_every_view(plain, study, tmp_path):
    _, (one, two) = study
    out = tmp_path / "out"
    run(study, out, head=head(study, "views"), embeddings=[two, one])
    check_scores(study, out, "views")
    shard = pq.read_table(out / "shards" / "n0.parquet").to_pandas()
    assert set(shard.mpp) == {0.5} and len(shard) == 36
    with pytest.raises(InputError, match="2 views: give one, or one for each"):
        run(study, tmp_path / "b", head=head(study, "views"), embeddings=[two])
    with pytest.raises(InputError, match="the head was trained on"):
        run(study, tmp_path / "b", head=head(study, "views"), embeddings=[one, two])


def test_what_does_not_fit_is_refused_before_work(plain, study, make_stages, tmp_path):
    _, (one, _) = study
    stages = make_stages(tmp_path)
    others = stages.tiles(dict.fromkeys(["o0", "o1"]), name="others")
    with pytest.raises(InputError, match=r"tiles: no slide of .*one is in .*others"):
        run(study, tmp_path / "b", head=head(study, "near"), tiles=others)
    stages.tiles(dict.fromkeys(SLIDES))
    for changes, words in (
        (
            {"recipe": {"scales": [1.0], "tile_px": 50}},
            r"two: of tiles of 50 px, the head was trained on tiles of 100",
        ),
        ({"prints": "another"}, r"views\.1: .* another file of slides 's0', 's1'"),
    ):
        two = stages.embeddings(other, "two", **changes)
        with pytest.raises(InputError, match=words):
            run(study, tmp_path / "b", head=head(study, "views"), embeddings=[two, one])
        shutil.rmtree(two)
    wide = stages.embeddings(embed, "one", recipe={"scales": [0.5], "tile_px": 50})
    with pytest.raises(InputError, match="tile the new slides with tile_px=100"):
        run(study, tmp_path / "b", head=head(study, "near"), embeddings=wide)
    assert not (tmp_path / "b").exists()


def test_a_parent_that_failed_is_named_and_counted(plain, study, tmp_path, capsys):
    _, (one, two) = study
    lacking = tmp_path / "two"
    shutil.copytree(two, lacking)
    shard = next((lacking / "shards" / "n0").glob("*.parquet"))
    table = pq.read_table(shard)
    coarse, row, col = (table[name].to_numpy() for name in ("mpp", "row", "col"))
    kept = ~((coarse == 1.0) & (row == 1) & (col == 2))
    assert kept.sum() == len(kept) - 1
    write_shard(shard, [table.filter(kept)], read_metadata(shard))
    out = tmp_path / "out"
    run(study, out, head=head(study, "views"), embeddings=[lacking, one])
    shown = pq.read_table(out / "shards" / "n0.parquet").to_pandas()
    assert len(shown) == 32  # the four children of the parent are left out
    (failure,) = pq.read_table(out / "failures.parquet").to_pylist()
    wanted = {"slide_id": "n0", "mpp": 1.0, "row": 1, "col": 2, "error": "NoView"}
    assert {key: failure[key] for key in wanted} == wanted
    assert "4 tiles left out" in failure["message"]
    assert "1 failures" in capsys.readouterr().out
    assert "NoView" in (out / "failures.csv").read_text()


def tables(folder):
    return {
        path.relative_to(folder): pq.read_table(path)
        for kind in ("shards/*.parquet", "predictions.parquet")
        for path in folder.glob(kind)
    }


@pytest.fixture
def reads(monkeypatch):
    """Every read of a slide's embeddings."""
    found, real = [], EmbeddingDirectory.read

    def read(self, slide_id, *args, **keys):
        found.append(slide_id)
        return real(self, slide_id, *args, **keys)

    monkeypatch.setattr(EmbeddingDirectory, "read", read)
    return found


def test_several_heads_write_what_each_writes_alone(plain, study, tmp_path, reads):
    heads = {name: head(study, name) for name in ("near", "deep")}
    run(study, tmp_path / "both", heads=heads)
    assert sorted(reads) == sorted(SLIDES + NEW)  # once for both
    for name, path in heads.items():
        run(study, tmp_path / name, head=path)
        own, alone = tables(tmp_path / "both" / name), tables(tmp_path / name)
        assert own.keys() == alone.keys() and len(own) == 1 + len(SLIDES + NEW)
        assert all(own[key].equals(alone[key]) for key in own)
    joined = pq.read_table(tmp_path / "both" / "predictions.parquet")
    for name in heads:
        alone = tables(tmp_path / name)[next(p for p in own if not p.parent.name)]
        assert joined["bag"].to_pylist() == alone["bag"].to_pylist()
        for column in ("target", "prob_normal", "prob_tumour", "predicted"):
            assert joined[f"{name}_{column}"].equals(alone[column])
    assert not (tmp_path / "both" / "mlflow.db").exists()  # it lies beside


def test_a_head_that_is_done_is_not_applied_again(plain, study, tmp_path, reads):
    heads = {name: head(study, name) for name in ("near", "deep")}
    out = tmp_path / "out"
    run(study, out, heads=heads)
    before = (out / "near" / "shards" / "n0.parquet").stat().st_mtime_ns
    (out / "deep" / "shards" / "n0.parquet").unlink()
    reads.clear()
    run(study, out, heads=heads)
    assert reads == ["n0"]
    assert (out / "near" / "shards" / "n0.parquet").stat().st_mtime_ns == before
    assert (out / "deep" / "shards" / "n0.parquet").is_file()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "give head, or heads"),
        ({"head": "a", "heads": {"a": "b"}}, "give head, or heads"),
        ({"heads": {"a/b": "c"}}, "use letters, digits"),
    ],
)
def test_wrong_heads_are_refused(study, tmp_path, keys, words):
    with pytest.raises(InputError, match=words):
        run(study, tmp_path / "out", **keys)


def test_patients_whose_tiles_were_not_held_together_are_not_predicted(
    plain, study, tmp_path
):
    copy = tmp_path / "head"
    shutil.copytree(head(study, "near"), copy)
    about = json.loads((copy / "model.json").read_text())
    about["folds"]["s0"] = [-1, -1]
    (copy / "model.json").write_text(json.dumps(about))
    run(study, tmp_path / "out", head=copy)
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert table["bag"].to_pylist() == [*SLIDES[1:], *NEW]


def test_of_several_heads_each_says_which_slide_it_could_not_draw(
    plain, study, tmp_path
):
    heads = {name: head(study, name) for name in ("near", "deep")}
    run(study, tmp_path / "out", heads=heads, tiles=study[0] / "tiles")
    for name in heads:
        out = tmp_path / "out" / name
        failed = pq.read_table(out / "failures.parquet").to_pylist()
        assert sorted(row["slide_id"] for row in failed) == sorted(SLIDES + NEW)
        assert {row["error"] for row in failed} == {"NoHeatMap"}
        assert pq.read_table(out / "predictions.parquet").num_rows == len(failed)
