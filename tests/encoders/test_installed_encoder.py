"""An encoder that another package installs, by an entry point."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.embedding.worker import ENCODERS

MODULE = """
    import numpy as np

    class Brightness:
        dim, digest, warnings = 3, "brightness", ()

        def __init__(self, gain):
            self.gain = gain

        def __call__(self, tiles):
            return self.gain * tiles.mean(axis=(1, 2)).astype(np.float32)

    def build(device, precision, *, gain: float = 1.0):
        return Brightness(gain)
    """


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on Python's path with an installed package of one encoder."""
    folder = tmp_path / "site"
    about = folder / "their_encoder-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-encoder\n")
    (about / "entry_points.txt").write_text(
        "[mshisto_ray.encoders]\nbrightness = their_encoder\n"
    )
    (folder / "their_encoder.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("their_encoder", None)


def test_it_is_named_checked_and_built_as_those_of_the_package(site, tiles):
    assert "brightness" in components.available(ENCODERS)
    assert any(
        line.startswith("{name: brightness, gain: 1}")
        for line in Family(ENCODERS).describe()
    )
    part = components.check(ENCODERS, Part.model_validate({"name": "brightness"}))
    assert part.parameters == {"gain": 1.0}
    wrong = Part.model_validate({"name": "brightness", "gian": 2})
    with pytest.raises(ValueError, match="'brightness' takes gain; got 'gian'"):
        components.check(ENCODERS, wrong)
    given = Part.model_validate({"name": "brightness", "gain": 2})
    encoder = components.build(ENCODERS, given, "cpu", "float32")
    expected = 2 * tiles.mean(axis=(1, 2)).astype(np.float32)
    np.testing.assert_array_equal(encoder(tiles), expected)


def test_a_worker_process_finds_it(site):
    code = (
        "import numpy as np\n"
        "from mshisto_ray import components\n"
        "from mshisto_ray.components import Part\n"
        "part = Part(name='brightness')\n"
        "made = components.build('mshisto_ray.encoders', part, 'cpu', 'float32')\n"
        "print(made(np.full((1, 2, 2, 3), 9, np.uint8)).tolist())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(site)},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == "[[9.0, 9.0, 9.0]]"
