"""The package `inspo`: what is installed, what it imports, in which direction, and its size."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

SHIPPED = ("config/default.yaml", "config/tabular.yaml", "data/tools/known.yaml")
# Two repair the import path of a script that is run from within the package, one imports what
# users have in their own folder.
MAY_CHANGE_THE_PATH = {
    "src/as_package.py",
    "src/envs/sc2/starcraft_worker.py",
    "src/utils/plugins.py",
}
TINY_RUN = """
import inspo
run = inspo.train("inspo", "xor_offline", t_max=20, behaviour_steps=10, test_nepisode=20)
print(inspo.__file__, run.folder, run.summary["steps"], sep="\\n")
"""


def call(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **variables},
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of packages that an installation would have, made from a copy of the project."""
    folder = tmp_path_factory.mktemp("packaging")
    project, packages = folder / "project", folder / "packages"
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "src", project / "src", ignore=caches)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, project)
    process = call("setup.py", "-q", "build", f"--build-lib={packages}", folder=project)
    assert process.returncode == 0, process.stderr
    return packages


def test_only_the_package_is_at_the_top_level(built):
    assert [path.name for path in built.iterdir()] == ["inspo"]


def test_every_module_and_every_file_of_data_is_in_it(built):
    source = PROJECT / "src"
    files = {
        path.relative_to(source).as_posix()
        for kind in ("*.py", "*.yaml", "*.pt")
        for path in source.rglob(kind)
    }
    assert files == {
        path.relative_to(built / "inspo").as_posix()
        for path in (built / "inspo").rglob("*")
        if path.is_file()
    }
    assert {
        *SHIPPED,
        "policies/2s3z.pt",
        "config/algs/inspo.yaml",
        "config/envs/xor_offline.yaml",
    } <= files


def test_the_installed_package_trains(built, tmp_path):
    """Without a checkout, data and results go to the current folder."""
    variables = {"PYTHONPATH": str(built), "PYTHONDONTWRITEBYTECODE": "1"}
    process = call("-c", TINY_RUN, folder=tmp_path, **variables)
    assert process.returncode == 0, process.stderr
    module, run, steps = process.stdout.split()
    assert Path(module) == built / "inspo" / "__init__.py"
    assert Path(run).parent == tmp_path / "results"
    assert steps == "20"
    assert {path.name for path in tmp_path.iterdir()} == {"dataset", "results"}


def test_nothing_changes_the_import_path():
    """Neither examples nor scripts need to: the package is installed."""
    changes = re.compile(r"sys\.path\b|from sys import [^\n]*\bpath\b")
    files = [PROJECT / "README.md"]
    for folder in ("docs", "src", "tests", "benchmarks"):
        for kind in ("*.md", "*.py", "*.ipynb"):
            files += (PROJECT / folder).rglob(kind)
    found = {
        file.relative_to(PROJECT).as_posix()
        for file in files
        if changes.search(file.read_text(encoding="utf-8"))
    }
    assert found <= MAY_CHANGE_THE_PATH


@pytest.fixture
def check_imports(tmp_path):
    """Checks the import contract on a copy of the package, of which the test may change a file."""
    pytest.importorskip("importlinter")
    ignored = shutil.ignore_patterns("__pycache__", "*.yaml")
    shutil.copytree(PROJECT / "src", tmp_path / "inspo", ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    program = (
        "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    )

    def check() -> subprocess.CompletedProcess:
        folder = str(tmp_path)
        return call("-c", program, "--no-cache", folder=tmp_path, PYTHONPATH=folder, COLUMNS="200")

    return check


def test_imports_go_down_the_layers(check_imports):
    process = check_imports()
    assert process.returncode == 0, process.stdout
    assert "2 kept, 0 broken" in process.stdout


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        (
            "data/recorder.py",
            "from inspo.learners import REGISTRY",
            "inspo.data.recorder -> inspo.learners",
        ),
        (
            "utils/errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import inspo.envs.bridge",
            "inspo.utils.errors -> inspo.envs.bridge",
        ),
    ],
)
def test_an_import_up_the_layers_is_found(check_imports, tmp_path, module, line, wrong):
    file = tmp_path / "inspo" / module
    file.write_text(f"{file.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    process = check_imports()
    assert process.returncode == 1
    assert "BROKEN" in process.stdout
    assert wrong in process.stdout


def test_functions_and_files_are_short():
    too_long = []
    for path in sorted((PROJECT / "src").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > 400:
            too_long.append(path.name)
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.end_lineno - node.lineno >= 50:
                too_long.append(f"{path.name}: {node.name}")
    assert not too_long
