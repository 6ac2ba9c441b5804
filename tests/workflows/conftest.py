"""Configs of studies."""

import pytest

from mshisto_ray import config as configs
from mshisto_ray.workflows.reproduce import ReproduceConfig


@pytest.fixture
def make_study_config():
    """A study's keys to the config of its job."""

    def make(data, out, **study):
        raw = {"study": study, "data": str(data), "out": str(out)}
        return configs.validate(ReproduceConfig, raw)

    return make
