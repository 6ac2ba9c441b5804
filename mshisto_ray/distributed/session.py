"""One Ray session for a job."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._private import parameter
from ray.exceptions import AuthenticationError

from mshisto_ray.config import InputError
from mshisto_ray.signals import keep_handlers

log = logging.getLogger(__name__)

# Pixels never enter the object store, so it stays small whatever the machine has.
OBJECT_STORE_BYTES = 2 * 1024**3
_SHARED_MEMORY = Path("/dev/shm")
# What Ray appends to its temporary folder to name its longest socket.
_SOCKET = "/ray/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store.12"
_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
_CONNECT_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 10.0

# Whether ``one_session`` is to end the session that a ``connect`` starts.
_is_kept = False


@contextlib.contextmanager
def connect() -> Iterator[None]:
    """A Ray session: the running cluster's, or a local one for this process.

    ``RAY_ADDRESS`` names the running cluster; ``ray job submit`` sets it for the job.
    Without it a private local session is started, even when some other cluster runs on
    this machine, and ended on leaving. A session that is open already is used as it is
    and left open.

    Raises:
        InputError: no cluster answers at ``RAY_ADDRESS``, or it refuses the token;
            the temporary folder's path is too long for Ray's sockets.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # asks for ipywidgets
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    with keep_handlers():
        if address:
            _join(address)
        else:
            _start_local()
    if _is_kept:
        yield
        return
    with _ended():
        yield


@contextlib.contextmanager
def one_session() -> Iterator[None]:
    """One Ray session for every ``connect`` inside, which the first of them starts.

    Nothing is started where none of them has work.
    """
    global _is_kept
    if ray.is_initialized():
        yield
        return
    _is_kept = True
    try:
        with _ended():
            yield
    finally:
        _is_kept = False


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        # The process is about to end, and Ray's processes with it. An orderly shutdown
        # would race with the call that the signal interrupted: seen to crash.
        raise
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


def _join(address: str) -> None:
    if "://" in address:
        raise InputError(
            f"RAY_ADDRESS={address} is for submitting: run this job with `ray job "
            "submit --working-dir . -- python jobs/...`, or unset RAY_ADDRESS to run "
            "on this machine"
        )
    if address != "auto":  # Ray itself would try for many minutes
        _check_listens(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, AuthenticationError) as error:
        mode = os.environ.get("RAY_AUTH_MODE", "unset")
        raise InputError(
            f"RAY_ADDRESS={address}: the cluster refuses this process, whose "
            f"RAY_AUTH_MODE is {mode}: export the cluster's own RAY_AUTH_MODE and, "
            "for 'token', its RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error


def _check_listens(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}): start "
            "it, or unset RAY_ADDRESS to run on this machine"
        ) from error


def _start_local() -> None:
    check_temporary_folder()
    room = shared_memory_bytes()
    if room < OBJECT_STORE_BYTES:
        log.warning(
            "/dev/shm has %d MiB free, Ray falls back to slow disk beyond that: start "
            "the container with --shm-size=2g",
            room // 2**20,
        )
    try:
        _init_local()
    except Exception:  # a busy machine, a port that was taken meanwhile
        ray.shutdown()
        time.sleep(_RETRY_AFTER_S)
        try:
            _init_local()
        except Exception as error:
            said = str(error).strip().split("\n")[0]
            raise InputError(
                f"Ray does not start here, twice ({type(error).__name__}: {said}): is "
                "the machine busy, or short of memory? mshisto doctor checks"
            ) from error


def _init_local() -> None:
    with _any_port_of_agent():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=object_store_bytes(),
        )


@contextlib.contextmanager
def _any_port_of_agent() -> Iterator[None]:
    """Let the agent of a node that is started inside listen on any free port.

    By default it takes one port of the machine. Where another Ray session has that,
    it tries for four seconds, in which ``ray.init`` waits, and gives up. ``ray.init``
    has no argument for it.
    """
    made = parameter.RayParams
    parameter.RayParams = functools.partial(made, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        parameter.RayParams = made


def object_store_bytes() -> int:
    """Size of a local session's object store: 2 GiB, or 30 % of a smaller memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(OBJECT_STORE_BYTES, int(0.3 * memory))


def shared_memory_bytes() -> int:
    """Free bytes of /dev/shm; ``OBJECT_STORE_BYTES`` where it does not exist."""
    if not _SHARED_MEMORY.is_dir():
        return OBJECT_STORE_BYTES
    return shutil.disk_usage(_SHARED_MEMORY).free


def check_temporary_folder() -> None:
    """Raise InputError when Ray's sockets would get too long a path."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        folder = os.environ.get(variable)
        if folder:
            room = _SOCKET_PATH_BYTES - len(_SOCKET)
            if len(os.fsencode(folder)) > room:
                raise InputError(
                    f"{variable}={folder} is too long for Ray's sockets (at most "
                    f"{room} bytes): export RAY_TMPDIR=/tmp"
                )
            return
