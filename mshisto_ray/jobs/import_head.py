"""A head that was trained with CLAM or as ABMIL, for ``predict``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.head import Head, write_head
from mshisto_ray.mil.published.head import HeadInput, class_names, read_published
from mshisto_ray.progress import say
from mshisto_ray.store.embeddings import EmbeddingDirectory


class ImportHeadConfig(Config):
    """Make a head for `predict` from the weights of a CLAM or ABMIL model."""

    weights: InputPath = option(
        text="checkpoint of CLAM or ABMIL: safetensors or a state_dict"
    )
    embeddings: InputPath = option(
        text="embeddings directory of the encoder that it was trained on"
    )
    classes: tuple[str, ...] = option(text="names of its outputs, in their order")
    column: str = option("label", "column of the classes, where a cohort has one")
    scale: float | None = option(
        None, "scale that it was trained at; null: the finest", unit="um/px", gt=0
    )
    out: OutputPath = option(text="folder of the head; an existing head is replaced")


def check(config: ImportHeadConfig) -> None:
    """Read the weights and check that they fit the embeddings."""
    _read(config)


def run(config: ImportHeadConfig) -> None:
    """Make a head for `predict` from the weights of a CLAM or ABMIL model."""
    head = _read(config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_head(config.out, head)
    pooling, model = head.about["config"]["pooling"], head.about["source"]["model"]
    attention = "per class" if pooling["per_class"] else "one"
    say(
        f"import_head: {model} ({pooling['name']}), attention {attention}, "
        f"{head.dims[0]} inputs, classes "
        f"{', '.join(head.classes)} -> {config.out}"
    )


def _read(config: ImportHeadConfig) -> Head:
    if config.out.exists() and not (config.out / "model.json").is_file():
        raise InputError(f"out: {config.out} is there and is not a head")
    directory = EmbeddingDirectory(config.embeddings)
    scale = directory.choose_scale(config.scale)
    classes = class_names(config.classes)
    target = TargetConfig(column=config.column, classes=classes)
    recipe = directory.manifest.recipe
    given = HeadInput(
        classes, target.build(), recipe["encoder"], directory.digest, scale
    )
    about = {
        "unit": "slide",
        "target": {"column": config.column, "classes": list(classes)},
        "source": {"weights": _digest(config.weights)},
    }
    head = read_published(config.weights, given, about)
    width = directory.dim
    if head.dims != (width,):
        raise InputError(
            f"weights: {config.weights} takes embeddings of width {head.dims[0]}, "
            f"{directory.path} has width {width}: give those of its own encoder"
        )
    return head


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
