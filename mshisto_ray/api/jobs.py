"""Jobs, run from Python."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mshisto_ray import entry
from mshisto_ray.api.errors import JobFailedError
from mshisto_ray.config import Config, InputError


@dataclass(frozen=True)
class Finished:
    """A finished job.

    Attributes:
        config: its resolved config.
        out: the folder that it wrote; None of a job that writes none.
    """

    config: Config
    out: Path | None

    @property
    def tables(self) -> list[str]:
        """Names of the tables below ``out``, without those of single slides."""
        if self.out is None:
            return []
        found = (path.relative_to(self.out) for path in self.out.rglob("*"))
        return sorted(
            str(path)
            for path in found
            if path.suffix in (".parquet", ".csv") and "shards" not in path.parts
        )

    def read(self, table: str) -> pd.DataFrame:
        """Read one of ``tables``.

        Raises:
            InputError: there is no such table.
        """
        if self.out is None or table not in self.tables:
            have = ", ".join(self.tables) or "none"
            raise InputError(f"{self.out}: no table {table!r}; have {have}")
        path = self.out / table
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def run(
    job: str, config: str | os.PathLike[str] | None = None, /, **keys: Any
) -> Finished:
    """Run a job: ``run("tile", cohort="cohort.csv", out="tiles")``.

    It works, resumes and prints as ``mshisto JOB`` does, in this process and the Ray
    workers that it starts; a Ray session that is open already is used.

    Args:
        job: its name: tile, embed, sweep, predict, train, run, ...
        config: a YAML file, one of your own or by its name one that comes with the
            package (``tile.yaml``).
        **keys: as on the command line; inner keys as a mapping, or dotted:
            ``**{"target.column": "grade"}``. They override those of the file.

    Returns:
        The resolved config, the folder that was written, and its tables.

    Raises:
        InputError: no such job; a wrong key or value; input that cannot be used. The
            message has one line per problem.
        TooManyFailuresError: more slides failed than ``runtime.max_failures`` allows.
        JobFailedError: the job ended, and what it printed says what went wrong.
    """
    path = None if config is None else Path(config)
    found, code = entry.call(job, path, keys)
    if code:
        raise JobFailedError(
            f"{job} ended with exit code {code}: see what it printed above"
        )
    return Finished(found, getattr(found, "out", None))
