"""The series that a DICOM file belongs to, from its header alone."""

from __future__ import annotations

import struct
from pathlib import Path

_PREAMBLE, _MARK = 128, b"DICM"
_HEADER_BYTES = 1 << 18  # pixels come much later; a series is named near the start
_SERIES_UID = (0x0020, 0x000E)
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
# Value representations whose length takes four bytes, after two reserved ones.
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR",
         b"UT", b"UV")  # fmt: skip


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM does; anything but a file does not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_MARK))[_PREAMBLE:] == _MARK
    except OSError:
        return False


def series_uid(path: Path) -> str | None:
    """Return the SeriesInstanceUID of a DICOM file, None if it cannot be read.

    All files of a series are one slide: OpenSlide opens the series by any of them.
    """
    if not is_dicom(path):
        return None
    with path.open("rb") as file:
        data = file.read(_HEADER_BYTES)
    try:
        return _find_series(data)
    except (struct.error, UnicodeDecodeError):
        return None  # damaged: reported when the slide is opened


def _find_series(data: bytes) -> str | None:
    """Walk the elements in order of their tags; nested ones are passed over."""
    place, depth, implicit, syntax = _PREAMBLE + len(_MARK), 0, False, ""
    while place < len(data):
        tag = struct.unpack_from("<HH", data, place)
        if tag[0] != 2 and tag[0] != 0xFFFE:
            implicit = syntax == _IMPLICIT_LITTLE
        start, length = _value(data, place, tag, implicit)
        if tag in (_ITEM_END, _SEQUENCE_END):
            depth -= 1
        elif length == _UNDEFINED:
            depth += 1
        elif depth == 0 and tag == _SERIES_UID:
            return data[start : start + length].decode("ascii").strip("\x00 ") or None
        elif depth == 0 and tag == _TRANSFER_SYNTAX:
            syntax = data[start : start + length].decode("ascii").strip("\x00 ")
        if depth == 0 and tag[0] != 0xFFFE and tag > _SERIES_UID:
            return None
        place = start if length == _UNDEFINED else start + length
    return None


def _value(
    data: bytes, place: int, tag: tuple[int, int], implicit: bool
) -> tuple[int, int]:
    """Return where the value of an element starts, and its length in bytes."""
    if implicit or tag[0] == 0xFFFE:
        return place + 8, struct.unpack_from("<I", data, place + 4)[0]
    if data[place + 4 : place + 6] in _LONG:
        return place + 12, struct.unpack_from("<I", data, place + 8)[0]
    return place + 8, struct.unpack_from("<H", data, place + 6)[0]
