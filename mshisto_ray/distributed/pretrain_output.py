"""What the driver adds to a pretrained encoder: pictures, ONNX, its MLflow run."""

from __future__ import annotations

from mshisto_ray import tracking
from mshisto_ray.contrastive.curve import METRICS, read_curve
from mshisto_ray.contrastive.pretrain import ENCODER
from mshisto_ray.contrastive.pretrain_config import PretrainConfig
from mshisto_ray.contrastive.samples import sample_pairs
from mshisto_ray.contrastive.tile_index import TileIndex
from mshisto_ray.distributed.progress import say
from mshisto_ray.encoders import _onnx
from mshisto_ray.reporting.pair_sheet import SHOWN, draw_pair_sheet
from mshisto_ray.store.tiles import TileDirectory

_PAIRS = "pairs.png"


def draw_pairs(config: PretrainConfig, tiles: TileDirectory, index: TileIndex) -> None:
    """Draw the first pairs of the training into ``out``, where they are not yet."""
    path = config.out / _PAIRS
    if not path.exists():
        pairs = sample_pairs(config, tiles, index, SHOWN)
        title = f"{config.pairs.name}: the first pairs of {config.out.name}"
        draw_pair_sheet(title, pairs).save(path)
        say(f"pretrain: pairs as they are trained on: {path}")


def export(config: PretrainConfig, tiles: TileDirectory) -> None:
    """Add ONNX to the encoder directory, where it is not yet."""
    folder = config.out / ENCODER
    if not (folder / _onnx.FILE).exists():
        apart = _onnx.export_onnx(folder, int(tiles.manifest.recipe["tile_px"]))
        say(f"pretrain: {folder / _onnx.FILE}, within {apart:.1e} of the network")


def log(
    config: PretrainConfig, mlflow: tracking.TrackingConfig, tiles: TileDirectory
) -> None:
    """One MLflow run with the whole curve, where there is none of this ``out``."""
    store = tracking.open_store(mlflow.uri, config.out, mlflow.experiment)
    if store.find_run("pretrained_out", str(config.out)) is None:
        store.log_run(
            config.out.name,
            config.model_dump(mode="json", exclude={"out", "mlflow"}),
            {},
            tags={
                "tiles_digest": tiles.manifest.digest,
                "pretrained_out": str(config.out),
            },
            artifacts=[config.out / name for name in (METRICS, _PAIRS, ENCODER)],
            curve=read_curve(config.out / METRICS),
        )
    say(f"pretrain: {store.view_command()}")
