import pytest
from fixtures.bag_samples import planted_bags

from mshisto_ray.mil.ragged import segments


@pytest.fixture
def planted():
    return planted_bags


@pytest.fixture(params=["form of CPUs", "padded"])
def every_form(request, monkeypatch):
    """Both forms of reducing bags, whatever the device and the sizes."""
    if request.param == "padded":
        monkeypatch.setattr(segments, "_PADS", {"cpu"})
        monkeypatch.setattr(segments, "_MOST_PADDING", 1_000_000)
        monkeypatch.setattr(segments, "_LONG", {"cpu": 1_000_000})
