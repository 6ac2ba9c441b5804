import subprocess
import sys
import time

import numpy as np
import onnx
import openslide as raw
import pytest
import torch
from onnx import helper, numpy_helper

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.jobs.benchmarks import _slides, embed
from mshisto_ray.jobs.benchmarks._embed_engines import ENGINES, measure_engines
from mshisto_ray.jobs.benchmarks._embed_gpu import gpu
from mshisto_ray.jobs.benchmarks._embed_plain import Ended
from mshisto_ray.jobs.benchmarks._embed_through_ray import cpu_ms, rate
from mshisto_ray.jobs.benchmarks._memory import PeakMemory
from mshisto_ray.slides import (
    open_slide,
)


def test_a_repeated_slide_is_the_small_one_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(_slides, "_SIDE_PX", 2048)
    path = _slides.make_repeated(tmp_path, 6144)
    with raw.OpenSlide(path) as handle:
        sizes = handle.level_dimensions
        assert float(handle.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    assert sizes == ((6144, 6144), (3072, 3072), (1536, 1536))
    large = open_slide(path, "native_tiles")
    small = open_slide(tmp_path / "20x_256.tiff")
    for level in range(3):
        found = large.read(level, 2048 + 512, 4096 + 256, 200, 300)
        expected = small.read(level, 512, 256, 200, 300)
        np.testing.assert_array_equal(found, expected)


def test_cost_and_pace_are_of_the_steady_state():
    """A worker's first unit pays for its start; what it does in between counts."""
    a = [Ended("a", 10, 5.0, 100.0), Ended("a", 10, 5.1, 101.0)]
    b = [Ended("b", 10, 9.0, 90.0), Ended("b", 10, 9.3, 92.0),
         Ended("b", 20, 9.7, 96.0)]  # fmt: skip
    mixed = [b[0], a[0], b[1], a[1], b[2]]
    assert cpu_ms(mixed) == pytest.approx(1e3 * np.median([0.01, 0.03, 0.02]))
    assert rate(mixed, 2) == pytest.approx(2 * 5)


def test_the_memory_of_a_worker_is_counted():
    # More than is counted on: this process may give some of its own memory back.
    code = "import time; held = b'1' * (300 << 20); time.sleep(2)"
    with PeakMemory() as alone:
        time.sleep(0.6)
    with PeakMemory() as both:
        # By this word in its command line a spawned worker is known.
        command = [sys.executable, "-S", "-c", code, "spawn_main"]
        subprocess.run(command, check=True)
    assert both.mib > alone.mib + 200


def write_graph(path):
    """A convolution and a mean, as ONNX."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 3, 4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["a"], strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["embedding"]),
    ]
    given = helper.make_tensor_value_info("pixels", 1, ["n", 3, 64, 64])
    made = helper.make_tensor_value_info("embedding", 1, ["n", 8])
    held = [numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph(nodes, "small", [given], [made], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def test_engines_are_side_by_side(tmp_path):
    tiles = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    write_graph(tmp_path / "small.onnx")
    half = [0.5, 0.5, 0.5]
    path = str(tmp_path / "small.onnx")
    small = {"name": "onnx", "path": path, "mean": half, "std": half}
    found = measure_engines({"small": small}, tiles, tmp_path)
    key = "embed.engines.small"
    for engine in ("onnxruntime", "openvino"):
        assert found[f"{key}.{engine}.float32"].value > 0
        assert found[f"{key}.{engine}.float32.cosine_gap"].value < 100
        assert found[f"{key}.{engine}.float32.neighbours"].value == 1
    fastest = min(
        found[f"{key}.{e}.float32"].value for e in ("onnxruntime", "openvino")
    )
    assert found[f"{key}.auto"].value <= fastest
    # In turns with OpenVINO alone, whichever engine was the fastest.
    assert found[f"{key}.by_hand"].value > 0
    assert found[f"{key}.auto.of_by_hand"].value > 0
    assert found[f"{key}.auto.of_by_hand"].target == 1.3
    assert 0 < found[f"{key}.stored_float16"].value < 1


@pytest.mark.slow
def test_the_engines_measured_by_default_take_the_tiles_that_are_read():
    tile = np.zeros((1, 256, 256, 3), np.uint8)
    for part in ENGINES.values():
        encoder = components.build(ENCODERS, Part(**part), "cpu", "float32")
        assert encoder(tile).shape == (1, encoder.dim)


@pytest.mark.slow
@pytest.mark.ray
def test_cost_and_split_are_measured_on_real_ray(local_ray, tmp_path, monkeypatch):
    # Of a half of the chunks each plain process needs two: the first is its start.
    for name, value in {"_COST_SIDE": 8192, "_COST_CHUNK": 128, "_HUGE_SIDE": 4096,
                        "_SMALL_SIDE": 1024, "_NUM_SMALL": 4}.items():  # fmt: skip
        monkeypatch.setattr(embed, name, value)
    monkeypatch.setattr(_slides, "_SIDE_PX", 2048)
    measure = embed.build(cases=("cost", "split"), model="test_efficientnet", actors=2)
    found = measure(tmp_path)
    assert found["embed.tiles"].value == 32 * 32 + 16 * 16 + 8 * 8
    cost = found["embed.worker_cpu"]
    assert cost.value > 0
    assert found["embed.worker_cpu.ratio"].value == cost.value / cost.baseline
    assert found["embed.peak_memory"].value > 100
    assert found["embed.split.most"].baseline == (336 + 4 * 21) / 2
    # The plain loop embeds what Ray does, tile for tile.
    plain = sorted((tmp_path / "embed_cost").glob("plain_*.npy"))
    assert sum(len(np.load(path)) for path in plain) == 1344

    small = tmp_path / "20x_256.tiff"
    with pytest.raises(InputError, match=r"20x_256.*take a larger slide"):
        embed.build(cases=("cost",), slide=small)(tmp_path / "given")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_large_networks_are_refused_without_a_gpu(tmp_path):
    with pytest.raises(InputError, match="gpu: torch sees no GPU here"):
        embed.build(cases=("gpu",))(tmp_path)


@pytest.mark.slow
@pytest.mark.ray
def test_large_networks_are_measured_through_ray_and_alone(local_ray, tmp_path):
    """As on a GPU, by a small one on the CPU."""
    small = {"small": {"name": "timm", "model": "test_resnet", "fit": "as_is"}}
    given = _slides.make_repeated(tmp_path, 4096)
    found = gpu(tmp_path, 1, given, None, small, ("float32",), "cpu", 16, 4)
    for way in ("float32", "float32_compiled"):
        for what in ("alone", "through_ray", "worker_cpu"):
            assert found[f"embed.gpu.small.{way}.{what}"].value > 0
