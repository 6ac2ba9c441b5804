import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import Config, InputError, OutputPath, option
from mshisto_ray.help import help_text


class Noise(Config):
    sigma: float = option(0.0, "noise", unit="standard deviations", ge=0)


class Example(Config):
    out: OutputPath = option(text="where results go")
    lr: float = option(1e-3, "learning rate", gt=0)
    noise: Noise = Noise()


def test_file_then_overrides_win(tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text("out: results\nlr: 1e-4\nnoise: {sigma: 0.1}\n")
    config = configs.load(Example, path, {"noise.sigma": 0.2})
    assert config.lr == 1e-4  # YAML 1.1 reads 1e-4 as a string; the type mends it
    assert config.noise.sigma == 0.2
    assert config.out == Path.cwd() / "results"


def test_every_problem_is_listed_at_once_and_by_name():
    raw = {"lr": -1, "nois": {}, "noise": {"sgma": 1}}
    with pytest.raises(InputError) as caught:
        configs.validate(Example, raw)
    text = str(caught.value)
    assert "out: required" in text
    assert "lr: Input should be greater than 0 (got -1)" in text
    assert "nois: unknown key; known: lr, noise, out" in text
    assert "noise.sgma: unknown key; known: sigma" in text


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ({"sigma": 1}, "sigma: unknown key; .*; did you mean noise.sigma?"),
        ({"old": {"sigma": 1}}, "old: unknown key; .*; did you mean noise.sigma?"),
        ({"noise": {"lr": 1}}, "noise.lr: unknown key; .*; did you mean lr?"),
        ({"nosie": {}}, "nosie: unknown key; .*; did you mean noise?"),
        ({"noise": {"sgma": 1}}, "noise.sgma: unknown key; .*; did you mean sigma?"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_the_right_one(raw, meant):
    with pytest.raises(InputError, match=meant.replace("?", r"\?")):
        configs.validate(Example, {"out": "/results", **raw})


def test_relative_output_is_refused_in_a_submitted_job(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(InputError, match="absolute path on shared storage"):
        configs.validate(Example, {"out": "results"})
    assert configs.validate(Example, {"out": "/results"}).out == Path("/results")


def test_configs_are_frozen_and_round_trip():
    config = configs.validate(Example, {"out": "/results"})
    with pytest.raises(ValueError, match="frozen"):
        config.lr = 2.0
    assert configs.validate(Example, configs.yaml.safe_load(configs.to_yaml(config)))


def test_help_shows_type_default_unit_and_meaning():
    text = help_text(Example, "Do the thing.\n\nMore.")
    assert text.startswith("Do the thing.\n")
    assert "out: path (required)" in text
    assert "noise.sigma: number, at least 0 [standard deviations] = 0" in text
    assert "learning rate" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["out=/tmp/x", "--check"], 0, "lr: 0.001"),
        (["out=/tmp/x"], 0, "ran 0.001"),
        (["out=/tmp/x", "lr=fast"], 2, "error: lr: Input should be a valid number"),
        (["missing.yaml"], 2, "no such config file"),
        (["out"], 2, "no such config file"),
        (["out=/tmp/x", "stray"], 2, "is not key=value"),
        (["out=/tmp/x", "lr=0.5"], 3, "error: 3 of 4 slides failed"),
    ],
)
def test_main_exit_codes(tmp_path, words, code, said):
    job = tmp_path / "job.py"
    job.write_text(
        textwrap.dedent(
            """
            import sys
            from mshisto_ray.config import *
            from mshisto_ray.config import OutputPath, TooManyFailuresError
            from mshisto_ray.entry import Job, run_job
            class E(Config):
                out: OutputPath
                lr: float = 1e-3
            def run(c):
                if c.lr == 0.5:
                    raise TooManyFailuresError("3 of 4 slides failed")
                print("ran", c.lr)
            run_job(lambda: Job(E, run), sys.argv[1:], "job")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(job), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_annotated_metadata_survives():
    class WithHint(Config):
        width: Annotated[int, configs.Field(gt=0)] = 3

    with pytest.raises(InputError, match="width"):
        configs.validate(WithHint, {"width": 0})


@pytest.mark.parametrize("path", ["s3://bucket/tiles", "gs://b/x", "file:///a/b"])
def test_addresses_are_no_paths(path):
    class Paths(Config):
        given: configs.InputPath
        out: OutputPath

    with pytest.raises(InputError) as error:
        configs.validate(Paths, {"given": path, "out": path})
    scheme = path.partition(":")[0]
    assert str(error.value).count(f"{scheme} is not supported") == 2


@pytest.mark.parametrize("path", ["", " ", None])
def test_an_empty_path_is_refused_where_one_is_needed(path):
    class Paths(Config):
        given: configs.InputPath
        out: OutputPath
        other: configs.InputPath | None = None

    with pytest.raises(InputError) as error:
        configs.validate(Paths, {"given": path, "out": path, "other": path})
    num = 2 if path is None else 3
    assert str(error.value).count("empty: give a path, or leave the key out") == num


def test_yaml_that_is_none_is_refused_in_one_line_with_its_place(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("lr: 1\nout: [unclosed\n")
    with pytest.raises(InputError) as caught:
        configs.read_yaml(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: not valid YAML: expected ',' or ']'")
    assert line.endswith("at line 3, column 1")
    with pytest.raises(
        InputError, match=r"the value is not YAML: .* at line 1"
    ) as caught:
        configs.parse_overrides(["noise={sigma: [1}"])
    assert len(str(caught.value).splitlines()) == 1


def test_a_word_where_keys_are_wanted_is_told_how_to_give_them():
    with pytest.raises(InputError, match=r"noise: has keys of its own, as noise\.KEY"):
        configs.validate(Example, {"out": "x", "noise": "gaussian"})


def test_a_flood_of_aliases_is_refused(tmp_path):
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for one, two in zip("abcdefghijk", "bcdefghijkl", strict=True):
        lines.append(f"{two}: &{two} [{', '.join([f'*{one}'] * 10)}]")
    (tmp_path / "flood.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="110 aliases, more than 100"):
        configs.read_yaml(tmp_path / "flood.yaml")


def test_a_colon_without_a_space_is_explained():
    """YAML reads ``{low:1}`` as a key without a value."""
    with pytest.raises(InputError, match="space after the colon: 'low: 1' in place"):
        configs.parse_overrides(["axes={epochs: {low:1, high:5}}"])
    with pytest.raises(InputError, match="'name: attention'"):
        configs.parse_overrides(["axes={pooling: [{name:attention}]}"])
    assert (
        configs.parse_overrides(["a={b: null, c: 'x:y', d: [e:f]}"])["a"]["c"] == "x:y"
    )
