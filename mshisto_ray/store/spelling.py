"""Spellings of one name: ``P00`` and ``p00``, ``001`` and ``1``, ``0`` and ``0.0``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_SHOWN = 5
_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:[.,](\d*?)0*)?")
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
# Cyrillic and Greek letters that look like Latin ones, without case.
_LOOKALIKES = str.maketrans(
    "асеорхукмтвніїαβεηικμνορτυχ", "aceopxykmtbhiiabehikmnoptyx"
)
_DECIMAL = re.compile(r"([+-]?\d+)\.(\d*?)0*")


def canonical_number(text: str) -> str:
    """Return a decimal number without its trailing zeros; other text as it is.

    ``0.0`` is ``0`` and ``1.50`` is ``1.5``: a table that passed through a program
    of floating-point columns holds the same labels as before.
    """
    found = _DECIMAL.fullmatch(text)
    if not found:
        return text
    whole, fraction = found.groups()
    if fraction:
        return f"{whole}.{fraction}"
    return "0" if not whole.strip("+-0") else whole


def spelling_key(name: str) -> str:
    """Return what all spellings of a name share.

    Case, spaces, quotes, leading zeros of every number, Unicode variants of one
    character, letters of other scripts that look like Latin ones, dashes and
    underscores, and zeros at the end of a decimal fraction are ignored.
    """
    text = unicodedata.normalize("NFKC", name).casefold().translate(_LOOKALIKES)
    text = "".join(_plain(character) for character in text)
    number = _NUMBER.fullmatch(text)
    if number:
        sign, whole, fraction = number.groups()
        return ("-" if sign == "-" else "") + whole + (f".{fraction}" * bool(fraction))
    return _LEADING_ZEROS.sub("", text)


def _plain(character: str) -> str:
    kind = unicodedata.category(character)
    # Cf: of no width; Pi, Pf: quotes; = stands before what Excel keeps as text.
    if character.isspace() or kind in ("Cf", "Pi", "Pf") or character in "'\"=`":
        return ""
    return "-" if kind in ("Pd", "Pc") else character


def find_clashes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of different names that are spellings of one, each sorted."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(spelling_key(name), set()).add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def explain_clashes(what: str, names: Iterable[str]) -> list[str]:
    """Return a line per group of ``find_clashes``, the first five of them."""
    groups = find_clashes(names)
    lines = [
        f"{what}: {' and '.join(map(repr, group))} differ only by case, leading zeros, "
        "spaces, dashes, quotes or look-alike letters: write the same one in the same "
        "way everywhere, and different ones so that they differ by more than that"
        for group in groups[:_SHOWN]
    ]
    if groups[_SHOWN:]:
        lines.append(f"{what}: {len(groups) - _SHOWN} more of this kind")
    return lines
