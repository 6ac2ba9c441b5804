"""The commands of README and docs, run in order as they are typed."""

import csv
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fixtures.docs import FENCE, PAGES, ROOT, name, shell_blocks

from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The table of twelve phantom slides with absolute paths and a ``label``."""
    folder = tmp_path_factory.mktemp("slides")
    settings = PhantomConfig(
        num_patients=12, slides_per_patient=1, size=2048, colour_matched=False
    )
    with write_cohort(settings, folder).open() as file:
        rows = list(csv.DictReader(file))
    with (folder / "listed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "slide_id", "patient_id", "label"])
        writer.writeheader()
        for row in rows:
            known = {key: row[key] for key in ("slide_id", "patient_id")}
            path = folder / row["path"]
            writer.writerow({**known, "path": path, "label": row["label_fine"]})
    return folder / "listed.csv"


# What is asked is whether the commands run, not how well their models do: a network
# that is made without a download, half of the phantoms, a tenth of the epochs.
# `tests/jobs/test_quickstart.py` runs the whole of `mshisto quickstart`.
SMALLER = {
    "mshisto quickstart\n": "mshisto quickstart num_patients=16 new_patients=4\n",
    "model: resnet50, weights: pretrained": "model: test_resnet, weights: random",
    "num_patients=24": "num_patients=12",
    "sweep sweep.yaml": "sweep sweep.yaml epochs=5",
}


# Where a page enters the study that `mshisto init` wrote, a user edits its file.
STUDY_FILE = {
    "model: resnet50, weights: pretrained": "model: test_resnet, weights: random",
    "sweep: {}": "sweep: {epochs: 5}",
}


RUNNABLE = [
    pytest.param(page, id=name(page), marks=pytest.mark.xdist_group(name(page)))
    for page in PAGES
    if any(not block.reason for block in shell_blocks(page))
]


# Files that a page's commands write, or words that they print.
LEFT_BY = {
    "README.md": ("my_study/study/report.html",),
    "first-study.md": ("my_study/study/report.html",),
    "install.md": ("ready",),
}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", RUNNABLE)
def test_its_commands_run_in_order(page, request, tmp_path):
    texts = [block.text for block in shell_blocks(page) if block.reason is None]
    script = "set -euo pipefail\n" + "".join(texts)
    for as_typed, smaller in SMALLER.items():
        script = script.replace(as_typed, smaller)
    edits = "".join(
        f"grep -qF '{was}' study.yaml && sed -i 's/{was}/{new}/' study.yaml\n"
        for was, new in STUDY_FILE.items()
    )
    if "write_cohort" not in script and "cd my_study" in script:
        edits += f"cp {request.getfixturevalue('cohort')} cohort.csv\n"
    script = re.sub(r"(cd my_study.*\n)", rf"\1{edits}", script)
    with tempfile.TemporaryDirectory(prefix="mshisto-", dir="/tmp") as ray:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "RAY_TMPDIR": ray}
        printed = run(["bash", "-c", script], tmp_path, env)
    for made in LEFT_BY[page.name]:
        assert (tmp_path / made).is_file() or made in printed, made
    if page.name == "first-study.md":
        ((_, code),) = [
            found
            for found in FENCE.findall((ROOT / "docs" / "files.md").read_text())
            if found[0] == "python"
        ]
        run([sys.executable, "-c", code], tmp_path / "my_study", None)


def run(command, folder, env):
    done = subprocess.run(
        command, cwd=folder, env=env, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout
