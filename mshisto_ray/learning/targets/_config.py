"""The target as a config takes it: a kind, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.learning.targets._target import Target

TARGETS = "mshisto_ray.learning.targets"


class _Kinds:
    """Lists the kinds in ``--help``."""

    def describe(self) -> list[str]:
        """One line a kind with its parameters."""
        return [
            line.replace("{name:", "{kind:", 1) for line in Family(TARGETS).describe()
        ]


class TargetConfig(BaseModel):
    """``{kind: survival, time: months}``; without a kind it is ``classes``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Annotated[str, _Kinds()] = Field(
        "classes", description="what is predicted, with the keys beside it"
    )

    def __init__(self, **keys: Any):
        super().__init__(**keys)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        keys = dict(raw)
        kind = keys.pop("kind", "classes")
        if not isinstance(kind, str) or "name" in keys:
            raise ValueError("give kind, a word, and the keys of that kind beside it")
        part = components.check(TARGETS, Part(name=kind, **keys))
        return {"kind": kind, **part.parameters}

    def build(self) -> Target:
        """The target."""
        keys = dict(self.model_extra or {})
        return components.build(TARGETS, Part(name=self.kind, **keys))


def restore_target(settings: Mapping[str, Any]) -> Target:
    """The target of a head or table, from its settings."""
    return TargetConfig(**settings).build()
