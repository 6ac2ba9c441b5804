"""The house: imports point one way, Ray and MLflow each live in one place."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mshisto_ray"
ORDER = [
    "config",
    "components",
    "provenance",
    "tracking",
    "store",
    "slides",
    "tiling",
    "encoders",
    "embedding",
    "evaluation",
    "contrastive",
    "representation",
    "learning",
    "tile_classification",
    "mil",
    "reporting",
    "exchange",
    "phantom",
    "distributed",
    "workflows",
]
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "mshisto_ray" and len(parts) > 1 else None


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = ORDER[: ORDER.index(own) + 1]
    rooms = {room(module) for module in imports(path)} - {None}
    assert rooms <= set(allowed), f"{name(path)} reaches down the list"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_ray_and_mlflow_have_one_place(path):
    top = {module.split(".")[0] for module in imports(path)}
    if path.parent != PACKAGE / "distributed":
        assert "ray" not in top
    if path != PACKAGE / "tracking.py":
        assert "mlflow" not in top
