"""docs/adding-an-algorithm.md: its blocks, put where it says, make what it says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT
from doc_pages import Block, blocks, commands

from inspo import collect, main

PAGE = PROJECT / "docs" / "adding-an-algorithm.md"
FAST = [
    "test_nepisode=200",
    "test_interval=300",
    "use_tensorboard=False",
    "save_model=False",
    "batch_size=128",
]
LEARNER = "src/learners/filtered_bc_learner.py"
SETTINGS = "src/config/algs/filtered_bc.yaml"
REGISTRY = "src/learners/__init__.py"


def files(*languages: str, below: str) -> list[Block]:
    """The blocks that belong into files of a folder."""
    found = [block for block in blocks(PAGE) if block.language in languages]
    return [block for block in found if block.file.startswith(below)]


def insert(path: Path, diff: str) -> None:
    """Puts each line `+x` of the diff behind the line before it, which the file must hold once."""
    for context, added in re.findall(r"^ (.*)\n\+(.*)$", diff, re.MULTILINE):
        text = path.read_text(encoding="utf-8")
        assert text.splitlines().count(context) == 1, f"{path} has no line '{context}'"
        path.write_text(text.replace(f"{context}\n", f"{context}\n{added}\n"), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with the page's algorithm in it."""
    copy = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    added = files("python", "yaml", below="src/")
    assert [block.file for block in added] == [LEARNER, SETTINGS]
    for block in added:
        assert not (copy / block.file).exists()
        (copy / block.file).write_text(block.content, encoding="utf-8")
    diffs = files("diff", below=REGISTRY)
    assert len(diffs) == 3
    for block in diffs[:2]:
        insert(copy / block.file, block.content)
    return copy


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """A folder with the page's algorithm and environment as modules of their own."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "my_marl").mkdir()
    for block in files("python", "yaml", below="my_marl/"):
        (folder / block.file).write_text(block.content, encoding="utf-8")
    learner, settings = files("python", "yaml", below="src/")
    for block in (learner, settings):
        (folder / "my_marl" / Path(block.file).name).write_text(block.content, encoding="utf-8")
    (diff,) = (block for block in files("diff", below="src/") if "my_marl" in block.content)
    before, after = re.fullmatch(r"-(.*)\n\+(.*)\n", diff.content).groups()
    path = folder / "my_marl" / "filtered_bc.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.splitlines().count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")
    return folder


def page_commands() -> list[list[str]]:
    """The page's commands in order, each without the word `python`."""
    found = [block for block in blocks(PAGE) if block.language == "sh"]
    lines = [command.split() for block in found for command in commands(block)]
    assert [line[0] for line in lines] == ["python"] * 4
    return [line[1:] for line in lines]


def newest_summary(results: Path) -> dict:
    newest = max(results.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return json.loads((newest / "summary.json").read_text())


def test_the_added_algorithm_learns_what_the_page_says(project):
    command = [sys.executable, *page_commands()[0], *FAST]
    process = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    summary = newest_summary(project / "results")
    assert summary["algorithm"] == "filtered_bc"
    assert summary["scores"]["test_return_mean"]["final"] > 19
    (folder,) = (project / "results").iterdir()
    assert "kept_return" in (folder / "metrics.csv").read_text()


@pytest.fixture
def in_outside(outside, monkeypatch):
    """The process works in that folder, and forgets its modules afterwards."""
    monkeypatch.chdir(outside)
    yield [f"local_results_path={outside / 'results'}", f"dataset_root={outside / 'dataset'}"]
    for name in [name for name in sys.modules if name.split(".")[0] == "my_marl"]:
        del sys.modules[name]


def test_the_same_outside_of_the_repository(outside, in_outside):
    script, *arguments = page_commands()[1]
    assert script == "src/main.py"
    assert main.main([*arguments, *FAST, *in_outside]) == 0
    summary = newest_summary(outside / "results")
    assert summary["algorithm"] == "filtered_bc"
    assert summary["scores"]["test_return_mean"]["final"] > 19


def test_the_added_settings_are_checked(in_outside, capsys):
    yaml_of_the_page = page_commands()[1][1]
    assert main.main([yaml_of_the_page, "--env-config=xor_offline", "with", "top_shar=1"]) == 2
    assert "did you mean 'top_share'?" in capsys.readouterr().err
    assert main.main([yaml_of_the_page, "--env-config=xor_offline", "with", "top_share=2"]) == 2
    assert "top_share" in capsys.readouterr().err


def test_the_environment_is_recorded_and_learned_from(outside, in_outside):
    script, *arguments = page_commands()[2]
    assert script == "src/collect.py"
    assert collect.main([*arguments, "with", in_outside[1]]) == 0
    assert (outside / "dataset" / "rendezvous" / "random.h5").is_file()

    script, *arguments = page_commands()[3]
    assert script == "src/main.py"
    small = ["t_max=100", "test_interval=50", "behaviour_steps=100", "use_tensorboard=False"]
    assert main.main([*arguments, "with", *small, *in_outside]) == 0
    summary = newest_summary(outside / "results")
    assert summary["dataset_return"]["return_mean"] < 0.1
    assert summary["scores"]["test_return_mean"]["final"] > 0.1


def test_the_examples_keep_the_style(project, outside):
    """They pass the project's own checks."""
    pytest.importorskip("ruff")
    for folder, checked in ((project, "src/learners/filtered_bc_learner.py"), (outside, "my_marl")):
        shutil.copy(PROJECT / "pyproject.toml", folder)
        for check in (["check"], ["format", "--check"]):
            command = [sys.executable, "-m", "ruff", *check, checked]
            process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            assert process.returncode == 0, process.stdout
