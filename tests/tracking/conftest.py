import pytest

from mshisto_ray.tracking import open_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return open_store(None, tmp_path_factory.mktemp("out"), "tests")
