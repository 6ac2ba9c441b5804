import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.manifest import differences, open_stage, read_manifest

RECIPE = {"scales": [0.5, 1.0], "tissue": {"name": "otsu", "threshold": 0.5}}


def test_the_same_recipe_enters_and_key_order_does_not_matter(tmp_path):
    first = open_stage(tmp_path / "out", "tiles", RECIPE, {"seed": 1})
    turned = dict(reversed(RECIPE.items()))
    again = open_stage(tmp_path / "out", "tiles", turned, {"seed": 2})
    assert (
        again.digest == first.digest == read_manifest(tmp_path / "out", "tiles").digest
    )


def test_another_recipe_is_refused_with_the_keys_named(tmp_path):
    open_stage(tmp_path / "out", "tiles", RECIPE, {})
    other = {**RECIPE, "scales": [0.5, 2.0], "tissue": {"name": "otsu"}}
    with pytest.raises(InputError) as caught:
        open_stage(tmp_path / "out", "tiles", other, {})
    text = str(caught.value)
    assert "scales: [0.5, 1.0] -> [0.5, 2.0]" in text
    assert "tissue.threshold: 0.5 -> None" in text
    assert "tissue.name" not in text


def test_foreign_folders_are_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"no manifest\.json says that a job made it"):
        open_stage(tmp_path, "tiles", RECIPE, {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    open_stage(tmp_path / "tiles", "tiles", RECIPE, {})
    with pytest.raises(InputError, match="holds tiles, not embeddings"):
        read_manifest(tmp_path / "tiles", "embeddings")


def test_tuples_and_lists_are_the_same_value():
    assert differences({"scales": (0.5, 1.0)}, {"scales": [0.5, 1.0]}) == []
