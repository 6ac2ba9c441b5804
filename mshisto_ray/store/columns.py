"""Which column of a user's table is the slide, the patient, the path and so on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mshisto_ray.config import Config, InputError, option

# Names under which other tools and registries keep the same thing, without case and
# without anything but letters and digits. A table that has one of them in place of the
# reserved name would be read as if it had no such column.
_IDENTIFIER = "(id|ids|identifier|no|nr|num|number|name|code|key|hash|uid|uuid|guid|"
_IDENTIFIER += "index|barcode|pseudonym|pseudo)"
_PERSON = "(patient|pat|case|casesubmitter|submitter|subject|participant|donor|"
_PERSON += "individual|person|proband|paciente|paziente|animal)"
_HIDDEN = "(tcga|anon(ymi[sz]ed)?|pseudo(nymi[sz]ed)?|deidentified)"
_ALIASES = {
    "path": "(full|slide|wsi|image|img)?(file|files|path|paths|filename|filenames|"
    "filepath|location|uri|url)|images?|img",
    "slide_id": f"(slide|wsi|image|img)s?{_IDENTIFIER}?",
    # pt alone is a stage
    "patient_id": f"(bcr|unique|cases|{_HIDDEN})?{_PERSON}s?{_IDENTIFIER}*|"
    f"{_IDENTIFIER}{_PERSON}s?|"
    f"{_HIDDEN}id|numeropatient|pseudonym|pt{_IDENTIFIER}|u?subj(ect)?(id|key)|"
    f"(mrn|empi|pid)|(medicalrecord|hospital|nhs){_IDENTIFIER}|"
    "fallnummer|patienten(id|nummer|pseudonym)",
    "mpp": "(level0?|native|scan)?mpp[xy0]?|(microns|micrometers|micrometres|um)per"
    "(pixel|px)[xy]?|umpx|(pixel)?spacing|pixel(size|width)(um)?",
    "annotation": "(annotation|annotations|xml|geojson)(file|path)?|annotationxml",
}
_VAGUE = ("image", "images", "img")  # a path where nothing else is
_FOLD_ALIASES = ("folds", "foldid", "cvfold", "split", "splits", "partition", "subset")
RESERVED = ("path", "slide_id", "patient_id", "mpp", "annotation", "fold")


class ColumnsConfig(Config):
    """Names of a table's columns, where they are not the reserved ones."""

    path: str | None = option(None, "column of slide files; null: `path`")
    slide_id: str | None = option(None, "column of slides' names; null: `slide_id`")
    patient_id: str | None = option(None, "column of patients; null: `patient_id`")
    mpp: str | None = option(None, "column of resolutions; null: `mpp`")
    annotation: str | None = option(None, "column of annotations; null: `annotation`")
    fold: str | None = option(None, "column of given folds; null: `fold`")


def find_column(path: Path, names: Iterable[str], wanted: str) -> str | None:
    """Return the column of a name: the very name, or the one equal but for case.

    Raises:
        InputError: several are equal but for case, and none is the very name.
    """
    names = list(names)
    found = [name for name in names if name == wanted]
    found = found or [name for name in names if name.casefold() == wanted.casefold()]
    if len(found) > 1:
        raise InputError(
            f"{path}: columns {' and '.join(map(repr, found))} differ only by case, "
            f"and {wanted!r} may be either: rename one"
        )
    return found[0] if found else None


def reserved_columns(
    path: Path,
    names: Sequence[str],
    given: ColumnsConfig,
    wanted: Iterable[str],
    required: Iterable[str] = (),
    section: str = "columns",
) -> dict[str, str]:
    """Return the table's column for each reserved name that it has.

    Args:
        path: of the table, for messages.
        names: of its columns.
        given: columns that the config names.
        wanted: reserved names to look for.
        required: those that the table must have.
        section: the config's key of ``given``, for messages.

    Raises:
        InputError: a line for each column that is required or named by the config and
            that the table lacks, that could be two things, or that is known under
            another name.
    """
    found: dict[str, str] = {}
    problems, meant = [], set(vars(given).values())
    have = ", ".join(names)
    for key in wanted:
        foreign = getattr(given, key, None)
        same = [n for n in names if n.casefold() == key and not foreign]
        if len(same) > 1:
            which = f"columns {' and '.join(map(repr, same))} differ only by case"
            problems.append(f"{path}: {which}: rename one, or give {section}.{key}")
            continue
        try:
            column = find_column(path, names, foreign or key)
        except InputError as error:
            problems.append(str(error))
            continue
        if column is not None:
            found[key] = column
        elif foreign:
            lacks = f"{section}.{key}: no column {foreign!r}; have {have}"
            problems.append(f"{path}: {lacks}")
        else:
            lacks = [f"{path}: no column {key!r}; have {have}"]
            alias = _alias(names, key, meant)
            meant.add(alias)  # one column is not two things
            if alias:
                problems.append(_named_otherwise(path, alias, key, section))
            else:
                problems += lacks if key in required else []
    if problems:
        raise InputError("\n".join(problems))
    return found


def _alias(names: Sequence[str], key: str, meant: set[str | None]) -> str | None:
    """The column that by its name is a reserved one; others than those ``meant``."""
    known = re.compile(_ALIASES.get(key, "(?!)"))
    found = [n for n in names if n not in meant and known.fullmatch(_plain(n))]
    return min(found, key=lambda n: _plain(n) in _VAGUE, default=None)


def _named_otherwise(path: Path, column: str, key: str, section: str) -> str:
    return (
        f"{path}: column {column!r} looks like {key}, but would not be read as such"
        f": rename it {key}, or give {section}.{key}={column} (if it is something "
        "else, give it another name)"
    )


def looks_like_fold(names: Iterable[str]) -> list[str]:
    """Return the columns that, by their names, hold folds or a split."""
    return [name for name in names if _plain(name) in _FOLD_ALIASES]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
