"""The job predict typed again: only what is missing or changed is predicted."""

import shutil

import pyarrow.parquet as pq
from fixtures.predicting import run

from mshisto_ray import config as configs
from mshisto_ray.jobs import predict
from mshisto_ray.prediction.unit import Bag, PredictWork, make_predictor
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import (
    read_metadata,
)


def test_a_second_run_does_only_what_is_missing(
    plain, prediction_study, predicted, capfd
):
    run(prediction_study, predicted, annotation="gland")
    said = capfd.readouterr().out
    assert "no tile of these slides is annotated as 'gland'; have tumour" in said
    run(prediction_study, predicted)
    # The bag without tiles is retried: it may have been embedded since.
    assert "predict: 10 of 11 bags already done" in capfd.readouterr().out


def test_a_slide_embedded_anew_is_predicted_anew(
    plain, prediction_study, predicted, tmp_path, capfd
):
    for name in ("embeddings", "out"):
        shutil.copytree(
            predicted if name == "out" else prediction_study / name, tmp_path / name
        )
    table = tmp_path / "embeddings" / "slides.parquet"
    rows = pq.read_table(table)
    changed = [(s == "s3" and "new") or m for s, m in zip(
        rows["slide_id"].to_pylist(), rows["made_from"].to_pylist(), strict=True
    )]  # fmt: skip
    place = rows.schema.get_field_index("made_from")
    pq.write_table(rows.set_column(place, rows.schema.field(place), [changed]), table)
    given = str(tmp_path / "embeddings")
    run(prediction_study, tmp_path / "out", embeddings=given)
    # With the bag without tiles.
    assert "predict: 9 of 11 bags already done" in capfd.readouterr().out


def test_a_bag_that_ended_its_process_twice_is_not_drawn_again(
    prediction_study, tmp_path
):
    paths = (prediction_study / "embeddings",)
    work = PredictWork(
        prediction_study / "gated_attention",
        paths,
        prediction_study / "tiles",
        tmp_path,
    )
    attempts = Attempts(tmp_path, "s0")
    attempts.begin(), attempts.begin()
    bag = {"slide_id": "s0", "patient_id": "p0", "slide_ids": ["s0"]}
    assert make_predictor(work, 1)(bag)["failures"] == 1
    metadata = read_metadata(predict.shard_path(tmp_path, "s0"))
    (failure,) = metadata["failures"]
    assert failure["kind"] == "crash" and "ended 2 times" in failure["message"]
    assert metadata["probabilities"]
    assert not list(tmp_path.rglob("*.png"))
    held = Bag.from_unit(bag), [EmbeddingDirectory(prediction_study / "embeddings")]
    for retry in (False, True):
        raw = {key: str(prediction_study) for key in ("head", "embeddings", "cohort")}
        raw |= {"out": str(tmp_path), "runtime": {"retry_failures": retry}}
        config = configs.validate(predict.PredictConfig, raw)
        assert predict._is_done(config, *held) != retry
