from pathlib import Path

import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.jobs import predict
from mshisto_ray.jobs.predict import PredictConfig
from mshisto_ray.tracking import Model, open_store, register_model


def settings(tmp_path, head):
    names = {"embeddings": "embeddings", "cohort": "cohort.csv", "out": "predictions"}
    paths = {key: str(tmp_path / name) for key, name in names.items()}
    return config.validate(PredictConfig, {"head": head, **paths})


def test_a_registered_head_is_the_folder_that_mlflow_keeps(tmp_path):
    head = tmp_path / "best"
    head.mkdir()
    (head / "weights").write_text("of no head")
    store = open_store(None, tmp_path / "sweep", "tests")
    model = Model("tests-sweep", head, "d1", 4, ("a", "b"), "about")
    reference = register_model(store, store.log_run("sweep", {}, {}), model)
    given = settings(tmp_path, reference)
    assert given.head == Path("models:/tests-sweep@champion")
    with pytest.raises(InputError, match=r"heads/d1: no model\.json"):
        predict.check(given)
    with pytest.raises(InputError, match="which has tests-sweep"):
        predict.check(settings(tmp_path, "models:/tests@champion"))


def test_a_registered_head_needs_a_store(tmp_path):
    with pytest.raises(InputError, match="no such database"):
        predict.check(settings(tmp_path, "models:/tests-sweep@champion"))
    assert not list(tmp_path.iterdir())
