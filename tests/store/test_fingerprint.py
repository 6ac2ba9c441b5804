import os
import threading

import pytest

from mshisto_ray.store import fingerprint
from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.fingerprint import fingerprints, slide_fingerprint


def test_content_decides_not_name_or_time(tmp_path):
    content = os.urandom(3_000_000)
    first, copy = tmp_path / "a.svs", tmp_path / "b.svs"
    first.write_bytes(content)
    copy.write_bytes(content)
    os.utime(copy, (1, 1))
    assert slide_fingerprint(first) == slide_fingerprint(copy)
    copy.write_bytes(content + b"x")
    assert slide_fingerprint(first) != slide_fingerprint(copy)
    copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert slide_fingerprint(first) != slide_fingerprint(copy)


def test_small_and_empty_files(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"")
    b.write_bytes(b"1")
    assert slide_fingerprint(a) != slide_fingerprint(b)


def test_mirax_counts_its_folder(tmp_path):
    slide = tmp_path / "s.mrxs"
    slide.write_bytes(b"header")
    alone = slide_fingerprint(slide)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "Data0.dat").write_bytes(b"pixels")
    assert slide_fingerprint(slide) != alone


def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "s.svs")
    with pytest.raises(UnitError, match="is a pipe"):
        slide_fingerprint(tmp_path / "s.svs")


def test_many_files_at_once(tmp_path):
    paths = [tmp_path / str(i) for i in range(40)]
    for path in paths[:-1]:
        path.write_text(path.name)
    expected = {path: slide_fingerprint(path) for path in paths[:-1]}
    assert fingerprints(paths) == {**expected, paths[-1]: None}
    assert fingerprints([]) == {}


def test_a_storage_that_does_not_answer_holds_up_nothing(tmp_path, monkeypatch, caplog):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("content")
    answers, whole = threading.Event(), slide_fingerprint

    def read(path):
        if path.name == "b":
            answers.wait(30)
        return whole(path)

    monkeypatch.setattr(fingerprint, "slide_fingerprint", read)
    found = fingerprints(paths, limit_s=0.5)
    answers.set()
    assert [found[path] is None for path in paths] == [False, True, False]
    assert "1 of 3 files could not be read within 0.5 s" in caplog.text
