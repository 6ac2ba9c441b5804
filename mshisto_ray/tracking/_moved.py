"""A database whose folder was moved.

MLflow keeps the address of every run's artifacts, and makes it absolute when an
experiment is created, so artifacts beside a moved database would not be found.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

FOLDER = "mlartifacts"
# Tags whose value begins with the absolute path of a job's output folder.
_PATH_TAGS = ("mshisto_ray.out", "mshisto_ray.result")
_WAIT_S = 60.0


def follow_move(database: Path) -> None:
    """Give a database the present place of its artifacts and output folders.

    Nothing is changed while the recorded place is the present one, under whatever
    name.
    """
    here = database.parent / FOLDER
    if not database.is_file() or not here.is_dir():
        return
    with contextlib.closing(sqlite3.connect(database, timeout=_WAIT_S)) as connection:
        for address in _recorded(connection):
            old = Path(url2pathname(urlsplit(address).path))
            if not (old.exists() and old.samefile(here)):
                with connection:
                    _rewrite(connection, address, old.parent, here)


def _recorded(connection: sqlite3.Connection) -> list[str]:
    """Addresses of artifacts that lie beside a database, as ``open_store`` has them."""
    tables = "SELECT name FROM sqlite_master WHERE name = 'experiments'"
    if not connection.execute(tables).fetchall():  # its first use was interrupted
        return []
    found = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
    return [
        address
        for (address,) in found
        if address and address.startswith("file:") and address.endswith(f"/{FOLDER}")
    ]


def _rewrite(
    connection: sqlite3.Connection, address: str, old: Path, here: Path
) -> None:
    new = here.as_uri()
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
        (new, address),
    )
    connection.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
        "WHERE substr(artifact_uri, 1, ?) = ?",
        (new, len(address) + 1, len(address) + 1, f"{address}/"),
    )
    for column in ("source", "storage_location"):
        connection.execute(
            f"UPDATE model_versions SET {column} = ? || substr({column}, ?) "
            f"WHERE substr({column}, 1, ?) = ?",
            (new, len(address) + 1, len(address) + 1, f"{address}/"),
        )
    root = str(old)
    connection.executemany(
        "UPDATE tags SET value = ? || substr(value, ?) WHERE key = ? AND "
        "substr(value, 1, ?) = ? AND substr(value, ?, 1) IN ('', '/', ' ')",
        [
            (str(here.parent), len(root) + 1, key, len(root), root, len(root) + 1)
            for key in _PATH_TAGS
        ],
    )
