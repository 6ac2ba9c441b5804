"""The only package that imports Ray; the stages do not depend on it.

Ray reads its environment once, when it is first imported, so the variables below are
set here, before any module of this package can import it. A value that the user has
exported is kept.
"""

import os
import secrets
import sys

# Whether this process's Ray session has a token of its own.
OWN_TOKEN = False

if "ray" not in sys.modules:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Under `uv run` Ray would package the folder and build every worker a second
    # environment; the workers are to use this one.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # The driver shows its own progress.
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # Ray's default for an embedded session is to write a token to ~/.ray/auth_token,
    # after which every later `ray start` demands it while `ray job submit` does not
    # send it. A token of this process alone keeps other users of the machine out and
    # leaves nothing behind. On a running cluster the user's settings apply.
    if not os.environ.get("RAY_ADDRESS") and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        OWN_TOKEN = True
