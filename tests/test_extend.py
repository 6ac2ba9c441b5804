"""Each walk of docs/extend.md, performed on a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"`((?:mshisto_ray|tests)/[^`\n]+\.py)`:(?:[^`]|`[^`\n]+`)*?```python\n(.*?)```",
    re.S,
)


@pytest.mark.slow  # as the commands of the other pages
def test_every_part_of_the_page_keeps_its_familys_contract(tmp_path):
    text = (ROOT / "docs" / "extend.md").read_text()
    ignored = shutil.ignore_patterns("__pycache__", "test_*.py")
    shutil.copytree(ROOT / "mshisto_ray", tmp_path / "mshisto_ray", ignore=ignored)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") == 15
    names, run = [], []
    for name, code in blocks:
        (tmp_path / name).write_text(code)
        if name.startswith("mshisto_ray"):
            names.append(Path(name).stem)
            folder = Path("tests", *Path(name).parts[1:-1])
            (every,) = (ROOT / folder).glob("test_every_[!o]*.py")
            for test in (ROOT / folder).glob("test_*.py"):  # hold the parts' examples
                shutil.copy(test, tmp_path / folder)
            run.append(folder / every.name)
        else:
            run.append(name)
    (diff,) = re.findall("```diff\n(.*?)```", text, re.S)
    subprocess.run(["git", "apply"], cwd=tmp_path, input=diff, text=True, check=True)
    chosen = " or ".join([*names, "specificity"])
    options = ["-q", "-n0", "-rp", "-p", "no:cacheprovider", "-k", chosen]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, run)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-3000:]
    for name in [*names, "specificity"]:  # -k chose its tests, not none
        assert re.search(rf"PASSED tests/.*{name}", found.stdout), name
