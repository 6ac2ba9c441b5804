"""Embeddings that an evaluation compares: at its scale, and one scale coarser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.distributed.session import connect
from mshisto_ray.evaluation.tile_set import TileSet, check_same_tiles, read_tile_set
from mshisto_ray.jobs import embed
from mshisto_ray.jobs._evaluate_config import BASELINES, EvaluateConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory

# Begins the folder of a baseline at the coarser scale.
_ABOVE = "coarse_"


@dataclass(frozen=True)
class Encoders:
    """Encoders, then baselines, by name; those of a scale often share a directory."""

    fine: Mapping[str, EmbeddingDirectory]
    coarse: Mapping[str, EmbeddingDirectory]


def open_encoders(
    config: EvaluateConfig, made: Sequence[embed.EmbedConfig] = ()
) -> Encoders:
    """Open the embeddings that are given, and baselines that were made."""
    given = {name: getattr(config.baselines, name) for name in BASELINES}
    paths = config.encoders | {name: path for name, path in given.items() if path}
    above = dict(config.coarse.encoders)
    for baseline in made:
        name = baseline.out.name
        if name in BASELINES:
            paths[name] = baseline.out
        else:
            above[name.removeprefix(_ABOVE)] = baseline.out
    fine = {
        name: EmbeddingDirectory(path, config.colours.get(name))
        for name, path in paths.items()
    }
    coarse = {
        name: EmbeddingDirectory(above[name], config.colours.get(name))
        if name in above
        else directory
        for name, directory in fine.items()
    }
    return Encoders(fine, coarse)


def read_coarse(
    config: EvaluateConfig, encoders: Encoders, mpp: float, slide_ids: Sequence[str]
) -> TileSet | None:
    """All tiles of the slides at the next coarser scale that all encoders have.

    Raises:
        InputError: ``coarse`` is given, and there is none.
    """
    tiles = TileDirectory(config.coarse.tiles or config.tiles)
    scales = sorted(tiles.manifest.recipe["scales"])
    directories = encoders.coarse
    coarser = [  # imported features may lack them
        scale
        for scale in scales
        if scale > mpp and all(scale in d.scales for d in directories.values())
    ]
    if config.coarse.is_given:
        check_same_tiles(tiles, directories)
        if not coarser:
            have = "; ".join(f"{n}: {d.scales}" for n, d in directories.items())
            raise InputError(
                f"coarse: no scale of {tiles.path} above {mpp:g} um/px is embedded by "
                f"all ({have}): give coarse.encoders for each, and coarse.tiles"
            )
    if not coarser:
        return None
    slides = [slide_id for slide_id in slide_ids if slide_id in tiles.slides]
    if not slides:
        raise InputError(f"coarse.tiles: {tiles.path} has none of the slides")
    return read_tile_set(tiles, directories, slides, coarser[0], own_only=False)


def make_baselines(baselines: Sequence[embed.EmbedConfig]) -> None:
    """Embed the tiles with baselines."""
    if baselines:
        with connect():
            for baseline in baselines:
                embed.run(baseline)


def missing_baselines(config: EvaluateConfig) -> list[embed.EmbedConfig]:
    """Embedding configs of the baselines that were not given."""
    parts = {
        "colour_stats": {"name": "colour_stats"},
        "random": config.baselines.random_encoder.model_dump(),
    }
    fine = [name for name in BASELINES if not getattr(config.baselines, name)]
    wanted = [(name, config.tiles, name) for name in fine]
    if config.coarse.tiles:
        above = [name for name in BASELINES if name not in config.coarse.encoders]
        wanted += [(name, config.coarse.tiles, _ABOVE + name) for name in above]
    uri = config.runtime.store_uri(config.out)
    runtime = config.runtime.model_dump() | {
        # The store of this evaluation, for the baselines that it makes too.
        "mlflow": {"uri": uri, "experiment": config.runtime.mlflow.experiment}
    }
    return [
        configs.validate(
            embed.EmbedConfig,
            {
                "tiles": tiles,
                "out": config.out / "baselines" / folder,
                "encoder": parts[name],
                "runtime": runtime,
            },
        )
        for name, tiles, folder in wanted
    ]
