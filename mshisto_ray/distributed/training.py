"""Training by several workers on Ray Train.

Workers are one process group. All that a restart needs is in ``out``, written by the
first worker: Ray only starts, watches and restarts workers, which then resume from
``out`` and reach the same weights.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import ray.train.torch
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError, option
from mshisto_ray.distributed.room import wait_for_room
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import ActorPlan, plan_actors
from mshisto_ray.progress import say
from mshisto_ray.runtime import Resources
from mshisto_ray.store.manifest import MANIFEST, read_manifest, write_text
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.joint_batch import Share
from mshisto_ray.training.loop import STATE, Say
from mshisto_ray.training.model import ModelConfig, Norm, check_norm, mixes_images
from mshisto_ray.training.task import make_model

# Restarts of the workers before the job gives up.
_MAX_RESTARTS = 3
_RAY_FOLDER, _REFUSED, _LOG = ".train", ".refused", "progress.log"
_LOOK_EVERY_S = 1.0
# Recipe key: the number of workers where weights depend on it, else "any".
_APART = "workers_normalising_apart"


class TrainingJobConfig(TrainingConfig):
    """The workers of a training, and additional outputs of the job."""

    workers: int = option(
        1, "processes that share every batch, a GPU each where there are any", ge=1
    )
    onnx: bool = option(
        False, "write the encoder as ONNX too (pip install 'mshisto-ray[onnx]')"
    )


C = TypeVar("C", bound=TrainingJobConfig)
# One worker's part of a training.
WorkerPart = Callable[[C, Say, Share, torch.device], object]


def with_workers(
    config: TrainingJobConfig,
    model: ModelConfig,
    tiles: TileDirectory,
    stage: str,
    recipe: dict[str, Any],
) -> dict[str, Any]:
    """The recipe with the number of workers, where batch statistics depend on it.

    Raises:
        InputError: see ``make_model``; ``out`` was begun by another number of workers,
            on which its weights depend.
    """
    made = make_model(config, model, int(tiles.manifest.recipe["tile_px"]))
    # With `own`, a worker's part of a batch is normalised by that part's statistics.
    apart = mixes_images(made) and model.norm == "own"
    now = config.workers if apart else "any"
    if (config.out / MANIFEST).exists():
        begun = read_manifest(config.out, stage).recipe.get(_APART, now)
        if begun != now and "any" not in (begun, now):
            raise InputError(
                f"workers: {config.out} was begun by {begun}, and {now} would train "
                "another network: each normalises by the statistics of its own part "
                f"of a batch. Give workers={begun}, or a new out; with model.norm="
                "frozen or sync any number of workers can resume it"
            )
    return recipe | {_APART: now}


@contextlib.contextmanager
def planned_workers(config: TrainingJobConfig, norm: Norm) -> Iterator[ActorPlan]:
    """A Ray session with room for the configured workers.

    Raises:
        InputError: there is no room, or these workers cannot use this norm.
    """
    with connect():
        size = config.runtime
        wanted = Resources(actors=config.workers, cpus=size.cpus, gpus=size.gpus)
        keys = "workers, runtime.cpus, runtime.gpus"
        plan = plan_actors(wanted, use_gpu=True, keys=keys)
        check_norm(norm, config.workers, "cuda" if plan.gpus else "cpu")
        yield plan


def train(name: str, config: C, plan: ActorPlan, work: WorkerPart[C]) -> None:
    """Train until all steps are done.

    Args:
        name: of the job, in messages.
        config: as the workers get it.
        plan: of ``planned_workers``.
        work: a function of a module, which a worker imports.

    Raises:
        InputError: the workers refused to train, or to resume.
    """
    say(
        f"{name}: {config.workers} worker(s) of {plan.cpus:g} CPUs and {plan.gpus:g} "
        f"GPUs, {steps_done(config.out)}/{config.steps} steps done -> {config.out}"
    )
    for leftover in (config.out / _RAY_FOLDER, config.out / _REFUSED):
        shutil.rmtree(leftover, ignore_errors=True)
        leftover.unlink(missing_ok=True)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    wait_for_room(plan)
    trainer = _trainer(config, plan, work)
    try:
        with _following(config.out / _LOG):
            _fit(trainer)
    except ray.train.TrainingFailedError:
        refused = config.out / _REFUSED
        if refused.exists():
            raise InputError(refused.read_text()) from None
        raise
    finally:
        shutil.rmtree(config.out / _RAY_FOLDER, ignore_errors=True)


def _trainer(
    config: C, plan: ActorPlan, work: WorkerPart[C]
) -> ray.train.torch.TorchTrainer:
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={
            "work": work,
            "config_class": type(config),
            "config": config.model_dump(mode="json"),
            "threads": plan.threads,
        },
        scaling_config=_scaling(plan),
        # Progress is in `out`; Ray would resume a name that it has seen finished from
        # its last checkpoint.
        run_config=ray.train.RunConfig(
            name="workers",
            storage_path=str(config.out / _RAY_FOLDER),
            failure_config=ray.train.FailureConfig(max_failures=_MAX_RESTARTS),
        ),
    )


def _fit(trainer: ray.train.torch.TorchTrainer) -> None:
    """Train, in another thread than the main one.

    There alone Ray sets a handler of Ctrl-C, with which a stopped training ends as if
    it had succeeded, and which stays.
    """
    ended: Future[object] = Future()

    def work() -> None:
        try:
            ended.set_result(trainer.fit())
        except BaseException as error:  # raised where it is waited for
            ended.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    ended.result()


@contextlib.contextmanager
def _following(path: Path) -> Iterator[None]:
    """Print what the first worker adds to its log: its output stays on its node."""
    ended = threading.Event()

    def follow() -> None:
        while True:
            last = ended.wait(_LOOK_EVERY_S)
            for line in file:
                say(line.rstrip("\n"))
            if last:
                return

    path.touch()
    with path.open() as file:
        file.seek(0, os.SEEK_END)
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _scaling(plan: ActorPlan) -> ray.train.ScalingConfig:
    resources = {"CPU": plan.cpus}
    if plan.gpus:
        resources["GPU"] = plan.gpus
    return ray.train.ScalingConfig(
        num_workers=plan.actors,
        use_gpu=bool(plan.gpus),
        resources_per_worker=resources,
    )


def _work(given: dict[str, Any]) -> None:
    """Run one worker's part of the training."""
    torch.set_num_threads(given["threads"])
    config = configs.validate(given["config_class"], given["config"])
    refused = config.out / _REFUSED
    if refused.exists():
        raise InputError(refused.read_text())
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)

    def note(line: str) -> None:
        with (config.out / _LOG).open("a") as file:
            file.write(f"{line}\n")

    try:
        given["work"](config, note, share, device)
    except InputError as error:
        # Another try would end the same way.
        write_text(refused, str(error))
        raise


def steps_done(out: Path) -> int:
    """Number of steps in ``out`` that a resumed training skips."""
    path = out / STATE
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"])
