import pytest

from mshisto_ray.jobs.benchmarks.pretrain import build, needs


def test_needs_are_those_of_the_formula():
    one = needs(1, 4000, 4.0, 224, 10_000, 1e-3)
    assert one.read_mb_per_s == pytest.approx(10)  # 1000 tiles a second
    assert one.read_cores == pytest.approx(1)
    assert one.copy_mb_per_s == pytest.approx(4000 * 150_528 / 1e6)
    many = needs(64, 4000, 4.0, 224, 10_000, 1e-3)
    assert many.read_cores == pytest.approx(64 * one.read_cores)
    assert many.copy_mb_per_s == one.copy_mb_per_s


@pytest.mark.slow
@pytest.mark.ray
def test_the_benchmark_measures_a_small_training(tmp_path):
    measure = build(
        backbone="test_resnet", tile_px=64, batch_size=8, steps=24, workers=(1,)
    )
    found = measure(tmp_path)
    shares = [
        found[f"pretrain.1_workers.{phase}"].value
        for phase in ("data", "copy", "compute", "communication")
    ]
    assert sum(shares) == pytest.approx(1)
    # Waiting would mean nothing if all were read before the first timed step.
    assert found["pretrain.blocks"].value >= 2
    assert found["pretrain.1_workers.images"].value > 0
    assert found["pretrain.1_workers.sent"].value == 0
    assert found["pretrain.8_gpus.reading"].value == pytest.approx(
        8 * found["pretrain.1_gpus.reading"].value
    )
