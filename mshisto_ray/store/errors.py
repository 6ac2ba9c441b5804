"""What a part of a unit raises when it cannot be made."""

from __future__ import annotations

from typing import Literal

Kind = Literal["input", "transient", "hung", "crash"]


class UnitError(Exception):
    """A unit of work, or a part of it, cannot be made; ``name`` identifies the cause.

    Its failure is of kind ``crash`` for the name "Crash", ``hung`` for "Hung", and else
    ``input``.
    """

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.name = name

    def __reduce__(self):
        return type(self), (self.name, str(self))

    @property
    def kind(self) -> Kind:
        """Of the failure that it becomes."""
        return {"Crash": "crash", "Hung": "hung"}.get(self.name, "input")  # pyright: ignore[reportReturnType]
