from mshisto_ray.jobs.benchmarks.heads import build


def test_both_ways_are_measured(tmp_path):
    found = build(heads=2, slides=2, tiles=50, width=8, repeats=1)(tmp_path / "new")
    assert found["heads.time"].value > 0 and found["heads.time"].baseline > 0
    assert found["heads.memory"].value > 0
    assert (tmp_path / "new" / "out1" / "shards" / "s1.parquet").is_file()
