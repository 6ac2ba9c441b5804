import pytest
from fixtures.bag_samples import planted_bags


@pytest.fixture
def planted():
    return planted_bags
