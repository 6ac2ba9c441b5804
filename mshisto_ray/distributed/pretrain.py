"""Contrastive pretraining by several workers: ``contrastive.pretrain`` on Ray Train.

Workers are one process group; what they do is ``pretrain_share``. All that a restart
needs lies in ``out``, written by the first worker: Ray only starts workers, watches
them, and starts them again, after which they go on from there to the same weights.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from mshisto_ray import config as configs
from mshisto_ray import tracking
from mshisto_ray.config import InputError, option
from mshisto_ray.contrastive.joint_batch import Share
from mshisto_ray.contrastive.model import (
    build_model,
    check_micro_batch,
    check_norm,
    mixes_images,
)
from mshisto_ray.contrastive.pretrain import (
    ENCODER,
    STAGE,
    STATE,
    pretrain_share,
    recipe_of,
)
from mshisto_ray.contrastive.pretrain_config import PretrainConfig, load_index
from mshisto_ray.contrastive.reading import check_slides
from mshisto_ray.distributed import pretrain_output as output
from mshisto_ray.distributed.progress import say
from mshisto_ray.distributed.session import ActorPlan, Resources, connect, plan_actors
from mshisto_ray.encoders import _onnx
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.store.tiles import TileDirectory

# Restarts of the workers before the job gives up.
_MAX_RESTARTS = 3
_RAY_FOLDER, _REFUSED, _SAID = ".train", ".refused", "progress.log"
_LOOK_EVERY_S = 1.0


class PretrainJobConfig(PretrainConfig):
    """Contrastive pretraining of an encoder by one or several workers."""

    workers: int = option(
        1, "processes that share every batch, a GPU each where there are any", ge=1
    )
    cpus: float | None = option(
        None, "CPU cores of each; null: 1, or a GPU's share of its node", gt=0
    )
    gpus: float | None = option(
        None, "GPUs of each; null: 1 where there are any, else 0", ge=0
    )
    onnx: bool = option(
        False, "write the encoder as ONNX too (pip install 'mshisto-ray[onnx]')"
    )
    mlflow: tracking.TrackingConfig = tracking.TrackingConfig()


def check(config: PretrainJobConfig) -> None:
    """Check tiles, labels, pairs, the batch and that ``out`` can be entered."""
    tiles, _ = load_index(config)
    check_slides(tiles)
    if config.onnx:
        _onnx.check_packages()
    check_stage(config.out, STAGE, _recipe(config, tiles))


def run(config: PretrainJobConfig) -> None:
    """Pretrain an encoder on the tiles of a cohort."""
    tiles, index = load_index(config)
    recipe = _recipe(config, tiles)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        if _steps_done(config.out) < config.steps:
            output.draw_pairs(config, tiles, index)
            with connect():
                _train(config)
        if config.onnx:
            output.export(config, tiles)
        output.log(config, config.mlflow, tiles)
    say(f"pretrain: encoder in {config.out / ENCODER}")


def _recipe(config: PretrainJobConfig, tiles: TileDirectory) -> dict[str, Any]:
    """What decides the weights; with batch statistics, also the number of workers."""
    Share(0, config.workers).part(config.batch_size)
    if config.verify is not None and config.workers > 1:
        raise InputError(
            "verify: compares the images of a whole batch, which no worker has: set "
            "workers=1, or verify=null"
        )
    tile_px = int(tiles.manifest.recipe["tile_px"])
    model = build_model(config.model, tile_px, config.seed)
    check_micro_batch(model, config.run.micro_batch)
    # With `own`, a worker's part of a batch is normalised by that part's statistics.
    apart = mixes_images(model) and config.model.norm == "own"
    workers = config.workers if apart else "any"
    return recipe_of(config, tiles) | {"workers_normalising_apart": workers}


def _train(config: PretrainJobConfig) -> None:
    wanted = Resources(actors=config.workers, cpus=config.cpus, gpus=config.gpus)
    plan = plan_actors(wanted, use_gpu=True)
    check_norm(config.model.norm, config.workers, "cuda" if plan.gpus else "cpu")
    say(
        f"pretrain: {config.workers} worker(s) of {plan.cpus:g} CPUs and {plan.gpus:g} "
        f"GPUs, {_steps_done(config.out)}/{config.steps} steps done -> {config.out}"
    )
    for leftover in (config.out / _RAY_FOLDER, config.out / _REFUSED):
        shutil.rmtree(leftover, ignore_errors=True)
        leftover.unlink(missing_ok=True)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "threads": plan.threads,
        },
        scaling_config=_scaling(plan),
        # Progress lies in `out`; a name that Ray has seen finished would be entered
        # again with its last checkpoint.
        run_config=ray.train.RunConfig(
            name="workers",
            storage_path=str(config.out / _RAY_FOLDER),
            failure_config=ray.train.FailureConfig(max_failures=_MAX_RESTARTS),
        ),
    )
    try:
        with _telling(config.out / _SAID):
            trainer.fit()
    except ray.train.TrainingFailedError:
        refused = config.out / _REFUSED
        if refused.exists():
            raise InputError(refused.read_text()) from None
        raise
    finally:
        shutil.rmtree(config.out / _RAY_FOLDER, ignore_errors=True)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Say what the first worker adds to its log: its own output stays on its node."""
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
    """What each worker does."""
    torch.set_num_threads(given["threads"])
    config = configs.validate(PretrainJobConfig, given["config"])
    refused = config.out / _REFUSED
    if refused.exists():
        raise InputError(refused.read_text())
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)

    def note(line: str) -> None:
        with (config.out / _SAID).open("a") as file:
            file.write(f"{line}\n")

    try:
        pretrain_share(config, *load_index(config), note, share, device)
    except InputError as error:
        # Another try would end the same way.
        write_text(refused, str(error))
        raise


def _steps_done(out: Path) -> int:
    path = out / STATE
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"])
