"""The page about adding an algorithm: its blocks, put where it says, make an algorithm that trains and learns."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

PAGE = PROJECT / "docs" / "adding-an-algorithm.md"
FAST = [
    "test_nepisode=200",
    "test_interval=300",
    "use_tensorboard=False",
    "save_model=False",
    "batch_size=128",
]


def blocks(language: str) -> list[tuple[str, str]]:
    """(file, content) of each code block; the file is the last one that a line of its own names before the block."""
    found, file = [], ""
    for name, kind, content in re.findall(
        r"^`(\S+)`:$|^```(\w+)\n(.*?)^```$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    ):
        file = name or file
        if kind == language:
            found.append((file, content))
    return found


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
    files = blocks("python") + blocks("yaml")
    assert [file for file, _ in files] == [
        "src/learners/filtered_bc_learner.py",
        "src/config/algs/filtered_bc.yaml",
    ]
    for file, content in files:
        assert not (copy / file).exists()
        (copy / file).write_text(content, encoding="utf-8")
    diffs = blocks("diff")
    assert len(diffs) == 2
    for file, diff in diffs:
        insert(copy / file, diff)
    return copy


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "src/main.py", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_added_algorithm_learns_what_the_page_says(project):
    ((_, command),) = blocks("sh")
    words = command.split()
    assert words[:2] == ["python", "src/main.py"]
    process = run(project, *words[2:], *FAST)
    assert process.returncode == 0, process.stderr
    (folder,) = (project / "results").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["algorithm"] == "filtered_bc"
    assert summary["scores"]["test_return_mean"]["final"] > 19
    assert "kept_return" in (folder / "metrics.csv").read_text()


def test_the_added_settings_are_checked(project):
    process = run(project, "--config=filtered_bc", "--env-config=xor_offline", "with", "top_shar=1")
    assert process.returncode == 2
    assert "did you mean 'top_share'?" in process.stderr


def test_the_page_keeps_the_house_style(project):
    """The example would pass the project's own checks."""
    pytest.importorskip("ruff")
    shutil.copy(PROJECT / "pyproject.toml", project)
    for check in (["check"], ["format", "--check"]):
        process = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "src/learners"],
            cwd=project,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stdout


def test_links_lead_somewhere():
    for page in sorted((PROJECT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
