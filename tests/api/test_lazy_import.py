"""`import inspo` is quick: it loads its names when they are used."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import inspo
from inspo import api

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SLOW = ("torch", "numpy", "h5py", "sacred", "jax", "matplotlib", "scipy", "inspo.api")


def in_a_fresh_process(code: str, folder: Path, **variables: str) -> str:
    """What `code` prints, with these variables instead of those that say how threads wait."""
    command = [sys.executable, "-W", "error", "-c", code]
    ours = {name: os.environ[name] for name in os.environ.keys() - set(WAITING)}
    process = subprocess.run(
        command, cwd=folder, env=ours | variables, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_import_loads_nothing_slow(tmp_path):
    code = f"import inspo, sys; print(dir(inspo), [name for name in {SLOW} if name in sys.modules])"
    assert in_a_fresh_process(code, tmp_path).strip() == f"{sorted(inspo.__all__)} []"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
    ids=["nobody chose", "a count of the user's", "a policy of the user's"],
)
def test_idle_threads_sleep_soon_unless_the_user_chose(tmp_path, variables, expected):
    code = "import inspo, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert in_a_fresh_process(code, tmp_path, **variables).strip() == expected


def test_every_name_is_that_of_the_api():
    assert sorted(inspo.__all__) == sorted(api.__all__)
    for name in inspo.__all__:
        assert getattr(inspo, name) is getattr(api, name)
        assert getattr(inspo, name).__doc__


def test_compare_is_the_function():
    """There is a script of that name beside it."""
    from inspo import compare

    assert callable(compare)
    assert inspo.compare is compare


@pytest.mark.parametrize("name", ["compare", "watch"])
def test_functions_stay_functions_when_the_scripts_are_imported(monkeypatch, name):
    monkeypatch.delitem(sys.modules, f"inspo.{name}", raising=False)
    monkeypatch.delitem(vars(inspo), name, raising=False)  # as if nobody had used it yet
    script = importlib.import_module(f"inspo.{name}")
    assert callable(script.main)
    assert getattr(inspo, name) is getattr(api, name)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'inspo' has no attribute 'trian'"):
        inspo.trian  # noqa: B018
    with pytest.raises(ImportError, match="trian"):
        from inspo import trian  # noqa: F401
