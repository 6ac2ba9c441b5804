from mshisto_ray.jobs import tile
from mshisto_ray.jobs._coverage import coverage_by_scale, coverage_notes
from mshisto_ray.store.cohort import read_cohort, slide_to_json
from mshisto_ray.store.shards import read_metadata, read_shard, write_shard
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.unit import make_tiler

SLIDES = [
    {"slide_id": "a", "coverage": [(0.5, 0.9), (2.0, 0.58)]},
    {"slide_id": "b", "coverage": [(0.5, 0.96), (2.0, 0.7)]},
    {"slide_id": "old", "coverage": None},
    {"slide_id": "c", "coverage": [(2.0, 0.4)]},
]


def test_little_coverage_is_warned_of_with_the_slides_and_the_key():
    found = coverage_notes(coverage_by_scale(SLIDES), 0.5)
    assert found == [
        "share of the tissue inside tiles, mean over slides: 93% (least 90%) at 0.5, "
        "56% (least 40%) at 2 um/px",
        "warning: at 2 um/px tiles hold less than 70% of the tissue in 2 of 3 slides "
        "(c 40%, a 58%): lower tissue_threshold (0.5) and tile into another out, or "
        "leave the scale out",
    ]


def test_many_slides_are_named_in_part_and_unknown_coverage_says_nothing():
    slides = [{"slide_id": f"s{i}", "coverage": [(2.0, i / 20)]} for i in range(9)]
    _, warning = coverage_notes(coverage_by_scale(slides), 0.5)
    assert "in 9 of 9 slides (s0 0%, s1 5%, s2 10%, s3 15%, s4 20%, ...)" in warning
    assert coverage_notes(coverage_by_scale(SLIDES[2:3]), 0.5) == []


def test_a_shard_made_before_coverage_was_recorded_is_still_read(tmp_path, write_slide):
    write_slide(tmp_path / "a.tiff", 0, size=(600, 600))
    (tmp_path / "c.csv").write_text("path\na.tiff\n")
    cohort = read_cohort(tmp_path / "c.csv")
    recipe = TilingRecipe(scales=(0.5, 1.0), tile_px=64, focus_mpp=None)
    unit = slide_to_json(cohort.rows[0]) | {"key": None}
    make_tiler(tmp_path, recipe.as_recipe())(unit)
    path = shard_path(tmp_path, "a")
    for keeps in (True, False):
        metadata = read_metadata(path)
        assert metadata
        if not keeps:
            del metadata["slide"]["coverage"]
            write_shard(path, [read_shard(path)], metadata)
        (row,) = tile.collect(tmp_path, cohort).tables["slides.parquet"].to_pylist()
        if keeps:
            assert [mpp for mpp, _ in row["coverage"]] == [0.5, 1.0]
            assert all(0.5 < share <= 1 for _, share in row["coverage"])
        else:
            assert row["coverage"] is None
