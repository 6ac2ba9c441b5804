"""Tables that users give: CSV in its common dialects, or Parquet; cells as text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError

# Compared without case. Words such as "unknown" may be classes, these are not.
_MISSING_WORDS = frozenset(
    ("na", "n/a", "n.a.", "n.a", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "-nan",
     "nat", "none", "null", "(null)", "\\n", "1.#qnan", "-1.#ind")
)  # fmt: skip
# Values, which may be meant as missing ones.
_DOUBTFUL_WORDS = frozenset(
    ("-", "--", "?", ".", "*", "nil", "xx", "xxx", "unknown", "unk", "missing",
     "not available", "undefined", "unspecified", "not reported", "not recorded",
     "not done", "not applicable", "no data", "pending", "tbd", "tba", "n/d", "nd",
     "n.d.", "k.a.", "nr", "n.n.", "anonymous", "anon", "inconclusive", "indeterminate",
     "-9", "-99", "-999", "-9999", "999", "9999")
)  # fmt: skip
_EXCEL_ERRORS = frozenset(("#null!", "#value!", "#ref!", "#name?", "#div/0!", "#num!"))
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_PARQUET_MARK = b"PAR1"
_OTHER_FILES = {b"PK\x03\x04": "an Excel workbook or a zip", b"\x1f\x8b": "compressed",
                b"\xd0\xcf\x11\xe0": "an old Excel workbook"}  # fmt: skip
_SAVE_AS = "save the table as CSV in UTF-8, or as Parquet"


@dataclass(frozen=True)
class UserTable:
    """A table of N rows.

    ``columns``: N cells each, as text without outer spaces, None where missing;
    ``words``: for each column, how many cells hold which word for a missing value.
    """

    path: Path
    num_rows: int
    columns: Mapping[str, Sequence[str | None]]
    words: Mapping[str, Mapping[str, int]]

    def notes(self, columns: Iterable[str]) -> list[str]:
        """Return a line per column with the words that were read as missing."""
        return [
            missing_note(self.path, name, self.words[name])
            for name in columns
            if self.words[name]
        ]


def missing_note(path: Path, column: str, words: Mapping[str, int]) -> str:
    """Return a line on the words in a column that were read as missing."""
    found = ", ".join(f"{word!r} in {n}" for word, n in words.items())
    return (
        f"{path}: column {column!r}: {sum(words.values())} rows read as missing "
        f"({found})"
    )


def is_missing_word(text: str) -> bool:
    """Return whether a cell of this text is a missing value."""
    return text.strip().casefold() in _MISSING_WORDS | _EXCEL_ERRORS


def is_doubtful_word(text: str) -> bool:
    """Return whether a cell of this text, which is a value, may be meant as missing."""
    return text.strip().casefold() in _DOUBTFUL_WORDS


def full_cells(cells: Sequence[str | None], column: str, what: str) -> list[str]:
    """The cells of a column that has to be full.

    Raises:
        InputError: empty cells; ``what`` names the table or its part.
    """
    known = [str(cell) for cell in cells if cell is not None]
    if len(known) < len(cells):
        raise InputError(
            f"{what}: column {column!r} is empty in {len(cells) - len(known)} of "
            f"{len(cells)} rows: fill or remove them"
        )
    return known


def read_table(path: Path, what: str) -> UserTable:
    """Read a table of the user.

    CSV: columns separated by comma, semicolon, tab or | (as the header has them), UTF-8
    or UTF-16 with or without a byte-order mark. Empty cells, Excel's errors and the
    words NA, N/A, N.A., #N/A, <NA>, NaN, NaT, None, NULL and their like, in any case,
    are missing.

    Args:
        path: of the CSV or Parquet file.
        what: the table's name in messages.

    Raises:
        InputError: no such file, another format or encoding, a row with more cells
            than the header, or two columns of one name.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such {what} file (CSV or Parquet)")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == _PARQUET_MARK
        if is_parquet or path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
            names = [name.strip() for name in table.column_names]
            values: Iterable[Iterable[object]] = [
                column.to_pylist() for column in table.columns
            ]
            num_rows = table.num_rows
        else:
            names, rows = _read_csv(path, what)
            num_rows = len(rows)
            values = zip(*rows, strict=True) if rows else [() for _ in names]
    except InputError:
        raise
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        message = f"{path}: not a readable CSV or Parquet: {error}; {_SAVE_AS}"
        raise InputError(message) from None
    _check_names(path, names)
    columns, words = {}, {}
    for name, cells in zip(names, values, strict=True):
        if name:  # an index that a program wrote has none, and nothing can refer to it
            columns[name], words[name] = read_cells(cells)
    return UserTable(path, num_rows, columns, words)


def read_cells(values: Iterable[object]) -> tuple[list[str | None], dict[str, int]]:
    """Return cells as text, None where missing, and the words that stood for missing.

    Whole floating-point numbers lose their ``.0``.
    """
    cells: list[str | None] = []
    words: Counter[str] = Counter()
    for value in values:
        text = None
        if isinstance(value, float):
            value = int(value) if value.is_integer() else value
        if value is not None and value == value:
            text = _bare(str(value)).strip() or None
        if text is not None and is_missing_word(text):
            words[text] += 1
            text = None
        cells.append(text)
    return cells, dict(words)


def _bare(text: str) -> str:
    """A cell without what Excel writes around a number that is kept as text."""
    found = re.fullmatch(r'\s*="(.*)"\s*', text)
    return found[1] if found else text


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, num in Counter(names).items() if num > 1 and name]
    if twice:
        raise InputError(
            f"{path}: the header has {', '.join(map(repr, twice))} more than once; "
            "give every column its own name"
        )


def _read_csv(path: Path, what: str) -> tuple[list[str], list[list[str]]]:
    text = _decode(path, path.read_bytes())
    stated = re.match(r"sep=(.)\s*\n", text, re.IGNORECASE)  # Excel's first line
    text = text[stated.end() :] if stated else text
    header = next((line for line in text.splitlines() if line.strip()), None)
    if header is None:
        raise InputError(f"{path}: empty file; a {what} needs a header")
    bare = re.sub(r'"[^"]*"', "", header)
    delimiter = stated[1] if stated else max(_DELIMITERS, key=bare.count)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=True,
    )
    names, *rows = [row for row in reader if any(cell.strip() for cell in row)]
    part = _DELIMITERS.get(delimiter, delimiter)
    for number, row in enumerate(rows, start=1):
        if any(cell.strip() for cell in row[len(names) :]):
            raise InputError(
                f"{path}: row {number} has {len(row)} cells and the header "
                f"{len(names)}, separated by {part}: put a cell that holds this "
                "character in double quotes"
            )
    width = len(names)
    rows = [(row + [""] * width)[:width] for row in rows]
    return [name.strip() for name in names], rows


def _decode(path: Path, data: bytes) -> str:
    for mark, kind in _OTHER_FILES.items():
        if data.startswith(mark):
            raise InputError(f"{path}: this file is {kind}; {_SAVE_AS}")
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data[1:2] == b"\x00":  # UTF-16 without a mark: every second byte is zero
        encoding = "utf-16-le"
    elif data[:1] == b"\x00":
        encoding = "utf-16-be"
    try:
        text = data.decode(encoding)
        if "\x00" in text:
            raise InputError(
                f"{path}: holds characters of code 0, so it is damaged or in another "
                f"encoding than UTF-8 and UTF-16; {_SAVE_AS}"
            )
        return text
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: line {line} is not text in {encoding.removesuffix('-sig')} (byte "
            f"{data[error.start]:#04x}), perhaps in Latin-1 or Windows-1252; {_SAVE_AS}"
        ) from None
