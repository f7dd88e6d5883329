"""What StarCraft II needs on this machine: the game, maps, and the package `smac` or `smacv2`."""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError

# What the headless game's program is called on Linux, and the game's on macOS.
PROGRAMS = ("SC2_x64", "SC2.app/Contents/MacOS/SC2")
NEEDED = ("pysc2", "s2clientprotocol")  # by `smac`, which is installed without them
INSTALL = (
    "pip install -e '.[sc2]' && pip install --no-deps git+https://github.com/oxwhirl/{package}.git"
)
SMACV2_MAP = "32x32_flat"  # the file of all its maps
SMACV2_MAPS = "https://github.com/oxwhirl/smacv2/raw/main/smacv2/env/starcraft2/maps/SMAC_Maps"


def starcraft_problem(package: str = "smac") -> str:
    """Why StarCraft II cannot be played here and how to install it; empty if it can.

    Starts and imports nothing.

    Args:
        package: through which it is played, `smac` or `smacv2`.
    """
    problems = []
    root = game_root()
    if os.name != "posix":
        problems.append("it runs on Linux and macOS only")
    if not any(_programs(root)):
        problems.append(
            f"the game is not in {root} (no Versions/Base*/{PROGRAMS[0]}): install it with "
            "docker/install_sc2.sh, or set SC2PATH to its folder"
        )
    if not map_names():
        problems.append(
            f"SMAC's maps are not in {map_folder()}: docker/install_sc2.sh installs them"
        )
    elif package == "smacv2" and SMACV2_MAP not in map_names():
        file = map_folder() / f"{SMACV2_MAP}.SC2Map"
        problems.append(f"SMACv2's map is not there: curl -L -o {file} {SMACV2_MAPS}/{file.name}")
    if problem := _package_problem(package):
        problems.append(f"{problem}: {INSTALL.format(package=package)}")
    return "; ".join(problems)


def game_root() -> Path:
    """Where StarCraft II is, or would be: SC2PATH, or ~/StarCraftII."""
    # os.path, because Path.expanduser raises an error for users without a home.
    return Path(os.path.expanduser(os.environ.get("SC2PATH") or "~/StarCraftII")).absolute()


def map_folder() -> Path:
    """Where SMAC looks for its maps."""
    return game_root() / "Maps" / "SMAC_Maps"


def map_names() -> list[str]:
    """SMAC's maps that are installed."""
    return sorted(path.stem for path in map_folder().glob("*.SC2Map"))


def check_map(name: str, file_name: str) -> None:
    """Checks that a map is installed.

    Args:
        file_name: of its file, without the ending. Several maps of SMACv2 share one.

    Raises:
        ConfigError: it is not. Names the missing file, and a similar map or all installed ones.
    """
    names = map_names()
    if file_name not in names:
        file = map_folder() / f"{file_name}.SC2Map"
        raise ConfigError(f"env_args.map_name={name}: there is no {file}{suggestion(name, names)}")


def _programs(root: Path) -> Iterator[Path]:
    for name in PROGRAMS:
        yield from (root / "Versions").glob(f"Base*/{name}")


def _package_problem(package: str) -> str:
    """What is wrong with `smac` or `smacv2`, and with what it needs; empty if nothing.

    PyPI has another package `smac`. Importing that one is slow and may fail.
    """
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(package)
    if spec is None:
        return f"the package `{package}` is not installed"
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    if any((folder / "env").is_dir() or (folder / "env.py").is_file() for folder in folders):
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        return f"`{package}` needs {' and '.join(missing)}, not installed" if missing else ""
    if any((folder / "facade").exists() for folder in folders):
        return (
            f"the installed package `smac` ({folders[0]}) is PyPI's hyper-parameter optimiser "
            "SMAC3; uninstall it (pip uninstall smac) and install the StarCraft Multi-Agent "
            "Challenge"
        )
    where = spec.origin or folders[0]
    return f"the installed package `{package}` ({where}) is not the StarCraft Multi-Agent Challenge"
