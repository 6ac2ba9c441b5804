"""Declared packages are used where they are declared; the pinned versions suit them."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]
# Packages whose modules have another name.
MODULES = {
    "openslide-python": "openslide",
    "openslide-bin": "openslide_bin",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}


def names(requirements):
    return [canonicalize_name(Requirement(text).name) for text in requirements]


@pytest.mark.parametrize("package", names(PROJECT["dependencies"]))
def test_every_dependency_is_imported_by_the_package_or_says_why_not(package):
    module = MODULES.get(package, package.replace("-", "_"))
    used = re.compile(rf"^\s*(?:import|from) {module}\b", re.M)
    sources = (ROOT / "mshisto_ray").rglob("*.py")
    if not any(used.search(path.read_text()) for path in sources):
        (line,) = re.findall(
            rf'^    "{package}[>=\[].*$', (ROOT / "pyproject.toml").read_text(), re.M
        )
        assert "  # " in line, f"{package}: nothing imports {module}"


@pytest.mark.parametrize(
    "text", [*PROJECT["dependencies"], *(t for e in EXTRAS.values() for t in e)]
)
def test_every_dependency_has_bounds_that_the_pinned_version_is_in(text):
    wanted = Requirement(text)
    if wanted.name == PROJECT["name"]:
        return
    assert {s.operator for s in wanted.specifier} == {">=", "<"}
    pinned = [p for p in PINS if p.name == canonicalize_name(wanted.name)]
    assert pinned
    for pin in pinned:
        (version,) = pin.specifier
        assert version.operator == "==" and version.version in wanted.specifier


def test_pins_name_versions_and_no_address():
    assert all(pin.url is None and len(pin.specifier) == 1 for pin in PINS)
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"://|--|\bfile:|@", text)


def test_everything_that_is_installed_with_the_extras_is_pinned():
    todo, seen = [(PROJECT["name"], {"test", "plots"})], set()
    while todo:
        name, extras = todo.pop()
        for text in metadata.requires(name) or []:
            found = Requirement(text)
            marker = found.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in {"", *extras}):
                continue
            key = canonicalize_name(found.name), frozenset(found.extras)
            if key not in seen and _is_installed(key[0]):
                seen.add(key)
                todo.append((key[0], set(key[1])))
    needed = {name for name, _ in seen} - {PROJECT["name"]}
    pinned = {pin.name for pin in PINS}
    assert len(needed) > 100 and not needed - pinned, sys.version


def _is_installed(name):
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
