import json
from types import SimpleNamespace

import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs._embed_config import EmbedConfig, make_targets
from mshisto_ray.store.manifest import Manifest, open_stage, recipe_digest

RECIPE = {"scales": [0.5], "tile_px": 64}
NETWORK = {"name": "timm", "model": "test_efficientnet", "weights": "random"}


def tiles(num):
    return SimpleNamespace(
        manifest=Manifest("tiles", RECIPE, "0" * 32),
        pixel_recipe=RECIPE,
        slides={"a": {"tiles_per_scale": [(0.5, num)]}},
    )


def target(out, num=100, **keys):
    raw = {"tiles": "/tiles", "out": str(out), "encoder": NETWORK} | keys
    (one,) = make_targets(configs.validate(EmbedConfig, raw), tiles(num))
    return one


def test_engines_are_tried_on_a_large_cohort_or_if_one_is_named(tmp_path):
    assert not target(tmp_path / "a").is_open
    assert target(tmp_path / "a", 5000).is_open
    assert target(tmp_path / "a", engine="onnxruntime").is_open
    fixed = {"engine": "torch", "precision": "float32"}
    assert not target(tmp_path / "a", 5000, **fixed).is_open
    assert not target(tmp_path / "a", 5000, encoder={"name": "colour_stats"}).is_open
    assert not target(tmp_path / "a", 5000, compile=True).is_open


def test_a_directory_keeps_the_pair_that_it_was_begun_with(tmp_path):
    """Also one made before there were engines: it was torch."""
    plain = target(tmp_path / "a", 5000)
    assert "engine" not in plain.recipe and plain.recipe["precision"] == "float32"
    for name, engine in (("a", None), ("b", "openvino")):
        recipe = plain.recipe | ({"engine": engine} if engine else {})
        with open_stage(tmp_path / name, "embeddings", recipe, {}):
            pass
        again = target(tmp_path / name, 5000)
        assert (again.pair.engine, again.is_open) == (engine, False)
        assert recipe_digest(again.recipe) == recipe_digest(recipe)
    other = target(tmp_path / "b", 5000, engine="torch")
    assert recipe_digest(other.recipe) == recipe_digest(plain.recipe)


def test_what_was_measured_is_in_the_manifest_and_not_in_the_recipe(tmp_path):
    given = {"engine_check": {"tiles": 128, "trials": []}}
    with open_stage(tmp_path / "a", "embeddings", {"k": 1}, {}, (), given) as manifest:
        content = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert content["engine_check"] == given["engine_check"]
    assert manifest.digest == recipe_digest({"k": 1})


def test_an_engine_that_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(InputError, match="has no network for openvino"):
        target(tmp_path, encoder={"name": "colour_stats"}, engine="openvino")
    with pytest.raises(InputError, match="torch compiles, not onnxruntime"):
        target(tmp_path, engine="onnxruntime", compile=True)
