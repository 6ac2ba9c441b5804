"""The house: imports point one way, Ray and MLflow each live in one place."""

import ast
import functools
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mshisto_ray"
DESIGN = PACKAGE.parent / "docs" / "design.md"
JOBS = Path(__file__).parents[1] / "jobs"
ORDER = [
    "signals",
    "ending",
    "shipped",
    "help",
    "config_problems",
    "config",
    "new_study",
    "entry",
    "components",
    "provenance",
    "tracking",
    "progress",
    "runtime",
    "statistics",
    "store",
    "slides",
    "drawing",
    "exchange",
    "tiling",
    "backbone",
    "encoders",
    "embedding",
    "evaluation",
    "maps",
    "training",
    "contrastive",
    "representation",
    "learning",
    "decision",
    "tile_classification",
    "mil",
    "prediction",
    "reporting",
    "phantom",
    "distributed",
    "studies",
    "jobs",
    "__main__",
    "api",
]
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Modules that a file imports, of those of the package the deepest."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                deep = f"{node.module}.{alias.name}"
                found.add(deep if deep in MODULES else node.module)
    return frozenset(found)


def room(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "mshisto_ray" and len(parts) > 1 else None


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def test_imports_point_one_way():
    down = {}
    for path in FILES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        rooms = {room(module) for module in imports(path)} - {None}
        down[name(path)] = rooms - set(ORDER[: ORDER.index(own) + 1])
    assert {file: rooms for file, rooms in down.items() if rooms} == {}


def test_ray_has_one_place_and_each_of_its_files_uses_it():
    # The package's own file sets the variables that Ray reads when it is imported.
    others = [path for path in FILES if path != PACKAGE / "distributed" / "__init__.py"]
    wrong = [
        name(path)
        for path in others
        if ("ray" in tops(path)) != (path.parent == PACKAGE / "distributed")
    ]
    assert wrong == []


def test_mlflow_has_one_place():
    users = {path.parent for path in FILES if "mlflow" in tops(path)}
    assert users == {PACKAGE / "tracking"}


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


def test_an_underscore_is_imported_by_its_own_folder_alone():
    """``_name.py`` is private to its folder, whose ``__init__`` exports what it has."""
    wrong = []
    for path in [*FILES, *sorted(JOBS.glob("*.py"))]:
        folder = module_name(path) if path.name == "__init__.py" else None
        folder = folder or ".".join(path.relative_to(PACKAGE.parent).parts[:-1])
        for module in imports(path):
            parts = module.split(".")
            private = [i for i, part in enumerate(parts) if part.startswith("_")]
            if parts[0] != "mshisto_ray" or not private:
                continue
            home = ".".join(parts[: private[0]])
            if not f"{folder}.".startswith(f"{home}."):
                wrong.append(f"{name(path)}: {module}")
    assert wrong == []


def test_there_is_no_import_circle():
    graph = {
        module_name(path): {m for m in imports(path) if m in MODULES} for path in FILES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for target in sorted(graph[module] - {module}):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_one_name_is_one_class():
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name(path))
    assert {n: found for n, found in places.items() if len(found) > 1} == {}


def test_every_job_at_the_top_calls_the_job_of_its_name():
    jobs = {p.stem for p in (PACKAGE / "jobs").glob("[!_]*.py")}
    assert {p.stem for p in JOBS.glob("*.py")} == jobs
    for path in JOBS.glob("*.py"):
        assert f'main("{path.stem}")' in path.read_text()


def test_the_page_on_the_design_lists_the_rooms_in_their_order():
    (tree,) = re.findall(r"```text\nmshisto_ray/\n(.*?)```", DESIGN.read_text(), re.S)
    listed = re.findall(r"^  (\w+)(?:/|\.py)?\s", tree, re.M)
    assert listed == [*ORDER]
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set(ORDER)


def test_every_file_and_name_on_the_page_on_the_design_exists():
    missing = []
    for place in re.findall(r"`([\w/]+\.py)(?::([\w.]+))?`", DESIGN.read_text()):
        files = [root / place[0] for root in (PACKAGE, PACKAGE.parent)]
        texts = [file.read_text() for file in files if file.is_file()]
        names = place[1].split(".") if place[1] else []
        known = all(
            any(re.search(rf"\b(def|class) {name}\b", text) for text in texts)
            for name in names
        )
        if not (texts and known) and place[0] != "jobs/X.py":
            missing.append(place)
    assert missing == []
