from pathlib import Path
from urllib.parse import unquote

import pytest

from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.embeddings import shard_path as embeddings_path
from mshisto_ray.store.file_names import check_distinct, file_name
from mshisto_ray.store.tiles import shard_path as tiles_path

HOSTILE = [
    "S23/1234",
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "C:\\x",
    "a%2Fb",
    "a/b",
    "~root",
    "-rf",
    " lead",
    "trail ",
    "trail.",
    "new\nline",
    "nul\x00",
    "a;b$c`d'e&f*?<>|\"",
    "Müller 3",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_one_file_inside_the_folder_and_comes_back(tmp_path, name):
    encoded = file_name(name)
    assert unquote(encoded) == name
    path = tmp_path / encoded
    assert path.parent == tmp_path and path.resolve().parent == tmp_path.resolve()
    path.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [encoded]


def test_different_names_are_different_files():
    assert len({file_name(name) for name in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("name", ["a", "TCGA-CR-7395-01A.ts1", "b 1", "x=y", "é,(1)+@"])
def test_plain_names_keep_their_files(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_shards_and_markers_stay_inside(tmp_path, name):
    for path in (tiles_path(tmp_path, name), embeddings_path(tmp_path, name, 0)):
        relative = path.relative_to(tmp_path)
        assert Path("..") not in relative.parents and ".." not in relative.parts
        assert len(relative.parts) == (2 if path.suffix == ".parquet" else 3) or (
            len(relative.parts) == 3
        )
    attempts = Attempts(tmp_path, name)
    assert [attempts.begin(), attempts.begin()] == [1, 2]
    attempts.end()
    assert not list((tmp_path / "attempts").iterdir())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["uni", "UNI"], "'uni' and 'UNI' differ only by case"),
        (["a", ""], "empty name"),
    ],
)
def test_names_that_would_share_a_file_are_refused(names, said):
    check_distinct("encoders", ["uni", "uni2"])
    with pytest.raises(ValueError, match=said):
        check_distinct("encoders", names)
