"""Names that users choose (slides, patients, classes, encoders) as names of files."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Separators, and characters that a shell, Windows or an object store treats
# specially. The percent sign is among them, so that the encoding can be undone.
_UNSAFE = re.compile(r"[/\\:*?\"<>|%&;$'`\x00-\x1f\x7f]|^[\s.~-]|[\s.]$")
# A file system takes 255 bytes; the rest is for suffixes and temporary names.
MAX_BYTES = 200


def file_name(name: str) -> str:
    """Return a name as one safe file name; names of plain characters stay as they are.

    Each unsafe character becomes its UTF-8 bytes as %XX, as in a URL: ``S23/1234`` is
    ``S23%2F1234``. ``urllib.parse.unquote`` gives the name back, so different names
    have different files. A leading dot, dash, tilde or space and a trailing dot or
    space are unsafe too.
    """
    return _UNSAFE.sub(_quote, name)


def check_distinct(what: str, names: Iterable[str]) -> None:
    """Refuse an empty name, and names that some file systems take for one file.

    Raises:
        ValueError: which names, and what to do.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name:
            raise ValueError(f"{what}: an empty name; give every one a name")
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(
                f"{what}: {other!r} and {name!r} differ only by case, and become the "
                "names of files: rename one"
            )


def _quote(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
