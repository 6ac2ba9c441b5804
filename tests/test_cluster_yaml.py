"""The cluster launcher's own reading of cluster.yaml."""

import copy
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"


@pytest.fixture
def config():
    return yaml.safe_load(CLUSTER.read_text())


def read(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it(config):
    prepared = read(config)
    types = prepared["available_node_types"]
    assert prepared["head_node_type"] in types
    assert any(kind["resources"].get("GPU") for kind in types.values())


@pytest.mark.parametrize("place", [(), ("available_node_types", "gpu")])
def test_misspelt_keys_are_refused(config, place):
    node = config
    for key in place:
        node = node[key]
    node["max_wrokers"] = 1
    with pytest.raises(Exception, match="max_wrokers"):
        read(config)


def test_every_node_starts_ray_with_the_same_token(config):
    assert "~/.ray/auth_token" in config["file_mounts"]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = config[key][-1]
        assert "RAY_AUTH_MODE=token ray start" in start
