import os

from mshisto_ray.store.fingerprint import slide_fingerprint


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
