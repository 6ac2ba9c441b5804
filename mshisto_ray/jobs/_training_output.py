"""What the driver adds to a trained encoder: ONNX, its MLflow run."""

from __future__ import annotations

from collections.abc import Sequence

from mshisto_ray.distributed.training import TrainingJobConfig
from mshisto_ray.progress import say
from mshisto_ray.store.manifest import Manifest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tracking import Course
from mshisto_ray.training.curve import METRICS, read_curve
from mshisto_ray.training.loop import ENCODER
from mshisto_ray.training.onnx import ONNX_FILE, check_onnx_packages, export_onnx


def check(config: TrainingJobConfig) -> None:
    """Check before training that the requested outputs can be written.

    Raises:
        InputError: see ``check_onnx_packages``.
    """
    if config.onnx:
        check_onnx_packages()


def finish(
    name: str,
    config: TrainingJobConfig,
    tiles: TileDirectory,
    manifest: Manifest,
    pictures: Sequence[str] = (),
) -> None:
    """Write ONNX if requested, and one MLflow run with the whole curve.

    Existing results are kept.

    Args:
        name: of the job, in messages.
        config: of the finished training.
        tiles: trained on.
        manifest: of ``out``.
        pictures: files of ``out`` that are logged too.
    """
    folder = config.out / ENCODER
    if config.onnx and not (folder / ONNX_FILE).exists():
        apart = export_onnx(folder, int(tiles.manifest.recipe["tile_px"]))
        say(f"{name}: {folder / ONNX_FILE}, within {apart:.1e} of the network")
    store = config.runtime.open_store(config.out)
    # Another recipe trained in the same folder is another run.
    key = f"{config.out} {manifest.digest}"
    if store.find_run("training_out", key) is None:
        store.log_run(
            config.out.name,
            config.model_dump(mode="json", exclude={"out", "runtime"}),
            {},
            tags={"tiles_digest": tiles.manifest.digest, "training_out": key},
            artifacts=[config.out / part for part in (METRICS, *pictures, ENCODER)],
            course=Course(curve=read_curve(config.out / METRICS)),
        )
    say(f"{name}: {store.view_command()}")
