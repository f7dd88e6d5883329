"""What StarCraft II needs: whether it is there, its version, and the script that installs it."""

import importlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import PathFinder

import pytest
from conftest import PROJECT

from inspo.envs.sc2 import SC2
from inspo.envs.sc2.starcraft import StarCraft
from inspo.envs.sc2.starcraft_install import map_folder, map_names, starcraft_problem
from inspo.utils.errors import ConfigError, SimulatorError


def test_what_is_missing_is_named(double, tmp_path, monkeypatch):
    def find_spec(name):  # whatever is installed here
        return PathFinder.find_spec(name, [str(double.path)])

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert starcraft_problem() == ""
    assert SC2().resolve({"simulator": "auto"})["simulator"] == "starcraft2"

    (double.path / "pysc2").rename(tmp_path / "pysc2")
    assert "`smac` needs pysc2, not installed: pip install" in starcraft_problem()
    assert SC2().resolve({"simulator": "auto"})["simulator"] == "smax"

    package = double.path / "smac"
    (package / "env").rename(tmp_path / "env")
    assert "not the StarCraft Multi-Agent Challenge" in starcraft_problem()
    (package / "facade").mkdir()  # what PyPI's package looks like
    assert "hyper-parameter optimiser" in starcraft_problem()
    assert "oxwhirl/smac" in starcraft_problem()
    package.rename(tmp_path / "elsewhere")
    assert "`smac` is not installed" in starcraft_problem()

    program = double.game / "Versions" / "Base75689" / "SC2_x64"
    program.unlink()
    assert f"not in {double.game} (no Versions/Base*/SC2_x64)" in starcraft_problem()

    for file in map_folder().iterdir():
        file.unlink()
    assert f"maps are not in {double.game}/Maps/SMAC_Maps" in starcraft_problem()
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    problem = starcraft_problem()
    assert f"the game is not in {tmp_path / 'nowhere'}" in problem
    assert "docker/install_sc2.sh" in problem
    with pytest.raises(SimulatorError, match="cannot be played: the game is not in"):
        StarCraft()


@pytest.mark.parametrize(
    ("name", "maps"), [("2s3x", r"did you mean '2s3z'\?"), ("corridor", "known: 2s3z, 3m")]
)
def test_a_missing_map_names_the_place_and_the_maps(double, name, maps):
    with pytest.raises(ConfigError, match=f"SMAC_Maps/{name}.SC2Map; {maps}$"):
        StarCraft(map_name=name)


@pytest.mark.parametrize(
    ("builds", "wanted", "expected"),
    [
        ([], None, "4.10.0.75689"),
        ([77379], "4.11.0", "4.11.0.77379"),
        ([77379], None, "4.11.2.77379"),
        ([99999], None, "Base99999"),
    ],
)
def test_the_version_is_the_one_that_pysc2_starts(double, builds, wanted, expected):
    for build in builds:
        double.install(build)
    assert StarCraft(game_version=wanted).game_version == expected


def test_a_version_without_its_program_is_named(double):
    program = double.install(99999)
    program.unlink()
    with pytest.raises(ConfigError, match=f"the game's program {program} is missing"):
        StarCraft()


@pytest.fixture
def archives(tmp_path) -> dict[str, str]:
    """Of game and maps: the original layout, but empty files and no encryption."""
    program = tmp_path / "game" / "StarCraftII" / "Versions" / "Base75689" / "SC2_x64"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    maps = tmp_path / "maps" / "SMAC_Maps"
    maps.mkdir(parents=True)
    (maps / "2s3z.SC2Map").touch()
    return {
        name: shutil.make_archive(str(tmp_path / name), "zip", tmp_path / name)
        for name in ("game", "maps")
    }


@pytest.mark.skipif(
    shutil.which("unzip") is None or sys.platform != "linux", reason="needs Linux and unzip"
)
def test_the_install_script_puts_game_and_maps_where_they_are_found(
    tmp_path, monkeypatch, archives
):
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text("#!/bin/sh\nexit 22\n")  # there is no connection
    curl.chmod(0o755)

    def install(**settings) -> subprocess.CompletedProcess:
        path = f"{curl.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(tmp_path)}
        environment |= {"SC2_ARCHIVE": archives["game"], **settings}
        script = PROJECT / "docker" / "install_sc2.sh"
        return subprocess.run([script], env=environment, capture_output=True, text=True)

    monkeypatch.setenv("SC2PATH", str(tmp_path / "StarCraftII"))
    assert "set SC2_PASSWORD" in install().stderr
    wrong = install(SC2_PASSWORD="x", SC2_ARCHIVE=archives["maps"])
    assert wrong.returncode == 1
    assert "does not hold version 4.10" in wrong.stderr
    assert "the game is not in" in starcraft_problem()
    wrong = install(SC2_PASSWORD="x")
    assert wrong.returncode == 1
    assert "set SC2_ARCHIVE or MAPS_ARCHIVE to the file" in wrong.stderr
    done = install(MAPS_ARCHIVE=archives["maps"])
    assert done.returncode == 0, done.stderr
    assert "cannot download SMACv2's map" in done.stderr
    assert map_names() == ["2s3z"]
    for _ in range(2):  # the second time, there is nothing left to do
        done = install(SMACV2_MAP=str(tmp_path / "maps" / "SMAC_Maps" / "2s3z.SC2Map"))
        assert done.returncode == 0, done.stderr
        assert "4.10 with 2 maps" in done.stdout
    assert map_names() == ["2s3z", "32x32_flat"]
    assert "the game is not in" not in starcraft_problem()
    assert os.access(tmp_path / "StarCraftII/Versions/Base75689/SC2_x64", os.X_OK)
