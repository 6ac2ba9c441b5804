"""README and docs: their links, their tables, and the commands as they are typed."""

import re
import shlex
from pathlib import Path

import pytest
from fixtures.docs import FENCE, PAGES, ROOT, name, shell_blocks

from mshisto_ray import config as configs
from mshisto_ray import entry, shipped
from mshisto_ray.config import InputError
from mshisto_ray.jobs._study_config import RunConfig, plan_steps
from mshisto_ray.jobs._sweep_config import AnySweepConfig
from mshisto_ray.learning.sweep import points as sweep

LANGUAGES = {"sh", "text", "python", "toml", "yaml", "diff"}
# Commands that are not ours: their words are not checked.
OTHERS = {
    "pip",
    "uv",
    "python",
    "source",
    "cd",
    "export",
    "ray",
    "mlflow",
    "docker",
    "kubectl",
    "apptainer",
}
INLINE = re.compile(r"`((?:\w+=\S+ )?mshisto\s[^`]+)`")
GENERIC = re.compile(r"\b(JOB|FOLDER|PART|X)\b")


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


def typed(text):
    """The commands of a text, each a list of words."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if word == "&&":
                if words:
                    yield words
                words = []
            elif words or not re.match(r"[A-Z_]+=", word):  # variables before a command
                words.append(word)


def check_command(words, complete=True):
    """Hold the words of a job against its config; other commands have to be known."""
    if words[:3] == ["ray", "job", "submit"]:
        words = words[words.index("--") + 1 :]
    if words[0] == "sbatch":
        words = words[words.index("deploy/slurm.sh") + 1 :]
    if words[:2] == ["uv", "run"] and words[2] == "mshisto":
        words = words[2:]
    if words[0] == "python" and words[1].startswith("jobs/"):
        check_job(Path(words[1]).stem, words[2:], complete)
    elif words[0] != "mshisto":
        assert words[0] in OTHERS, words
    elif words[1] == "init":
        assert len(words) == 3 or not complete
    elif words[1] not in ("--help", "--version"):
        check_job(words[1], words[2:], complete)


def check_job(job_name, words, complete):
    job = entry._load_job(job_name)
    words = [word for word in words if word not in ("--check", "--help")]
    complete = complete and bool(words)  # `mshisto tile --help` needs no key
    words = job.to_words(words)
    path = None
    if words and "=" not in words[0]:
        path = find_config(words.pop(0))
    try:
        found = configs.load(job.config, path, configs.parse_overrides(words))
    except InputError as error:
        lines = str(error).splitlines()
        wrong = [x for x in lines if complete or "required, but not given" not in x]
        assert not wrong, wrong
        return
    if isinstance(found, RunConfig):
        plan_steps(found)
    if isinstance(found, AnySweepConfig):
        sweep.expand(found, found.axes)


def find_config(given):
    """The config file of a command; study.yaml is what ``mshisto init`` writes."""
    if Path(given).name == "study.yaml":
        return shipped.folder() / "run.yaml"
    path = ROOT / given if "/" in given else shipped.find_config(Path(given))
    assert path.is_file(), given
    return path


@every_page
def test_every_command_is_one_that_its_job_takes(page):
    for block in shell_blocks(page):
        assert "..." not in block.text
        for words in typed(block.text):
            check_command(words)
    prose = FENCE.sub("", page.read_text())
    for text in INLINE.findall(prose):
        text = " ".join(text.split())
        if not GENERIC.search(text):
            (words,) = typed(text)
            check_command(words, complete=False)


def test_a_wrong_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\nmshisto tile cohort=a.csv out=b tilepx=3\n```\n")
    with pytest.raises(AssertionError, match="tilepx: unknown key"):
        test_every_command_is_one_that_its_job_takes(page)
    page.write_text("```sh\nmshisto tile tile.yml && cd x\n```\n")
    with pytest.raises(AssertionError, match=r"tile\.yml"):
        test_every_command_is_one_that_its_job_takes(page)
    page.write_text("Type `mshisto embed batchsize=3`.\n")
    with pytest.raises(AssertionError, match="batchsize: unknown key"):
        test_every_command_is_one_that_its_job_takes(page)


@every_page
def test_every_block_has_a_language_so_that_no_command_is_passed_over(page):
    text = page.read_text()
    assert {kind for kind, _ in FENCE.findall(text)} <= LANGUAGES
    assert text.count("```sh\n") == len(shell_blocks(page))
    assert text.count("<!-- not run") == sum(
        block.reason is not None for block in shell_blocks(page)
    )


def anchors(page):
    """Of the headings, as GitHub makes them."""
    found: list[str] = []
    for title in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M):
        plain = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        num = found.count(plain)
        found.append(f"{plain}-{num}" if num else plain)
    return found


def broken_links(page):
    prose = FENCE.sub("", page.read_text())
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n[x](#a-b-c) [y](#a) [z](gone.md) [w](page.md#a-b-c)\n")
    assert broken_links(page) == ["#a", "gone.md"]


@every_page
def test_every_page_is_reached_from_the_readme(page):
    readme = ROOT / "README.md"
    known = re.findall(r"\]\(([^)#\s]+)", readme.read_text())
    assert page == readme or page in [ROOT / target for target in known]


def test_the_readme_is_one_page_with_the_tests_command():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert "pip install uv && uv run --extra test pytest" in text
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(pictures) == 2
    assert all((ROOT / path).stat().st_size < 300_000 for path in pictures)


@pytest.mark.parametrize("study", sorted((ROOT / "published").iterdir()), ids=name)
def test_tables_of_studies_are_the_published_ones(study):
    table = study / "table.md"
    lines = table.read_text().splitlines()
    published = [x for x in lines if x.startswith("|") and re.search(r"\.\d|\d%", x)]
    shown: list[str] = []
    page = (ROOT / "docs" / "results" / "studies.md").read_text()
    for part in page.split(f"<!-- from {name(table)} -->\n")[1:]:
        shown += part.split("\n\n")[0].splitlines()
    assert set(shown) <= set(lines)
    assert set(published) <= set(shown)
