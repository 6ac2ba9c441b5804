import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store import manifest
from mshisto_ray.store.manifest import differences, open_stage, read_manifest
from mshisto_ray.store.temporary import temporary_beside

RECIPE = {"scales": [0.5, 1.0], "tissue": {"name": "otsu", "threshold": 0.5}}
HOLDER = """
import sys, time
from pathlib import Path
from mshisto_ray.store.manifest import open_stage
with open_stage(Path(sys.argv[1]), "tiles", {}, {}):
    print("in", flush=True)
    time.sleep(600)
"""


def enter(out, recipe):
    with open_stage(out, "tiles", recipe, {}) as manifest:
        return manifest


def test_the_same_recipe_is_accepted_and_key_order_does_not_matter(tmp_path):
    first = enter(tmp_path / "out", RECIPE)
    again = enter(tmp_path / "out", dict(reversed(RECIPE.items())))
    assert (
        again.digest == first.digest == read_manifest(tmp_path / "out", "tiles").digest
    )


def test_another_recipe_is_refused_with_the_keys_named(tmp_path):
    enter(tmp_path / "out", RECIPE)
    other = {**RECIPE, "scales": [0.5, 2.0], "tissue": {"name": "otsu"}}
    with pytest.raises(InputError) as caught:
        enter(tmp_path / "out", other)
    text = str(caught.value)
    assert "scales: [0.5, 1.0] -> [0.5, 2.0]" in text
    assert "tissue.threshold: 0.5 -> absent" in text
    assert "tissue.name" not in text


def test_foreign_folders_are_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"has no manifest\.json, so no job made it"):
        enter(tmp_path, RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    enter(tmp_path / "tiles", RECIPE)
    with pytest.raises(InputError, match="holds tiles, not embeddings"):
        read_manifest(tmp_path / "tiles", "embeddings")


def test_tuples_and_lists_are_the_same_value():
    assert differences({"scales": (0.5, 1.0)}, {"scales": [0.5, 1.0]}) == []


def test_a_key_that_is_absent_is_not_null():
    assert differences({"a": 1}, {"a": 1, "b": None}) == ["b: absent -> None"]


def test_one_job_at_a_time_and_a_killed_one_frees_the_directory(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(InputError, match=rf"is using it \(process {holder.pid} on"):
            enter(tmp_path / "out", {})
        holder.kill()
        holder.wait()
    enter(tmp_path / "out", {})
    enter(tmp_path / "out", {})  # a job that ends frees it too


def test_the_code_that_made_a_directory_is_recorded(tmp_path):
    enter(tmp_path / "out", RECIPE)
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["versions"]["mshisto-ray"] != "absent"
    if (Path(__file__).parents[2] / ".git").exists():
        assert len(found["commit"].removesuffix("-dirty")) == 40


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for out in (tmp_path / "file" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match=r"cannot be written to \(.*another out"):
            enter(out, RECIPE)


@pytest.mark.parametrize("text", ["", '{"stage": "tiles"', "[]", '{"stage": "tiles"}'])
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest.json: damaged.*copy it again"):
        enter(tmp_path, RECIPE)


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(manifest.fcntl, "flock", flock)
    with pytest.raises(InputError, match="has no locks"):
        enter(tmp_path / "out", RECIPE)


def test_files_in_the_making_have_names_of_their_own(tmp_path):
    names = {temporary_beside(tmp_path / "a.parquet") for _ in range(50)}
    assert len(names) == 50
    assert all(name.parent == tmp_path and name.name[0] == "." for name in names)
