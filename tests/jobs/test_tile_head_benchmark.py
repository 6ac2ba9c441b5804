from mshisto_ray.jobs.benchmarks.tile_head import build


def test_both_ways_are_measured_and_the_file_is_removed(tmp_path):
    found = build(tiles=5000, width=16)(tmp_path)
    assert found["tile_head.epoch"].value > 0 and found["tile_head.epoch"].baseline > 0
    assert found["tile_head.memory"].target == 2000
    assert not list(tmp_path.iterdir())
