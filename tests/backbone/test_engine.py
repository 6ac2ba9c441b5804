import numpy as np
import pytest

from mshisto_ray import components
from mshisto_ray.backbone.engine import (
    OWN,
    Pair,
    candidates,
    check_engine,
    missing_packages,
    on_engine,
)
from mshisto_ray.components import Part
from mshisto_ray.config import InputError

PX = 64


def built(**part):
    given = Part.model_validate(part)
    return components.build("mshisto_ray.encoders", given, "cpu", "float32")


def network(**keys):
    return built(name="timm", model="test_efficientnet", weights="random", **keys)


def engines():
    names = ("onnxruntime", "openvino")
    return [name for name in names if not missing_packages(network(), name)]


@pytest.fixture(scope="module")
def tiles():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (11, PX, PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "graph" / "network"


# The graph begins after the input transform, so that no resizing is exported.
FITS = {"fit": "resize", "size": 48, "interpolation": "bicubic"}


def test_an_engine_gives_the_embeddings_of_torch(tiles, graph):
    encoder = network(**FITS)
    wanted = encoder(tiles)
    written = None
    for name in engines():
        moved = on_engine(encoder, Pair(name), "cpu", graph, PX)
        assert (moved.dim, moved.digest) == (encoder.dim, encoder.digest)
        found = moved(tiles)
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-3)
        # A tile's embedding does not depend on the tiles beside it.
        np.testing.assert_array_equal(moved(tiles[2:3]), found[2:3])
        made = {p: p.stat().st_mtime_ns for p in graph.iterdir()}
        assert written in (None, made)  # made once
        written = made
    assert [p.name for p in graph.parent.iterdir()] == ["network"]


def test_an_encoder_stays_on_its_own_engine(tmp_path):
    encoder = network()
    assert on_engine(encoder, OWN, "cpu", tmp_path / "g", PX) is encoder
    assert on_engine(encoder, Pair("torch"), "cpu", tmp_path / "g", PX) is encoder
    assert not list(tmp_path.iterdir())


def test_candidates_are_what_is_installed_and_not_the_reference():
    found = candidates(network(), "cpu")
    assert Pair("torch") not in found
    assert {pair.engine for pair in found if pair.precision == "float32"} == set(
        engines()
    )
    assert candidates(built(name="colour_stats"), "cpu") == []


def test_an_engine_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="has no network for openvino"):
        check_engine(built(name="colour_stats"), "openvino")
    with pytest.raises(InputError, match=r"runs on CPUs: take engine: torch"):
        pair = Pair(engines()[0])
        on_engine(network(), pair, "cuda", None, PX)  # pyright: ignore[reportArgumentType]
