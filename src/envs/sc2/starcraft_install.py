"""What StarCraft II needs on this machine: the game, SMAC's maps, and the package `smac`, which is not PyPI's."""

import importlib
import importlib.util
import os
from pathlib import Path

from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError

SMAC_COMMAND = (
    "pip install -e '.[sc2]' && pip install --no-deps git+https://github.com/oxwhirl/smac.git"
)


def installed() -> str:
    """Empty if StarCraft II can be played here; else a sentence: what is missing, and how to get it. Starts nothing."""
    problems = []
    root = game_root()
    if os.name != "posix":
        problems.append("it is played on Linux and macOS only")
    if not any((root / "Versions").glob("Base*")):
        problems.append(
            f"the game is not in {root} (no Versions/Base*): install it with docker/install_sc2.sh, "
            "or set SC2PATH to the folder it is in"
        )
    if not map_names():
        problems.append(f"SMAC's maps are not in {map_folder()}: docker/install_sc2.sh gets them")
    if problem := _package_problem():
        problems.append(f"{problem}: {SMAC_COMMAND}")
    return "; ".join(problems)


def game_root() -> Path:
    """Where StarCraft II is, or would be: SC2PATH, or ~/StarCraftII."""
    # A user may have no home: pathlib's expanduser would raise then.
    return Path(os.path.expanduser(os.environ.get("SC2PATH") or "~/StarCraftII")).absolute()


def map_folder() -> Path:
    """Where SMAC looks for its maps."""
    return game_root() / "Maps" / "SMAC_Maps"


def map_names() -> list[str]:
    """SMAC's maps that are there."""
    return sorted(path.stem for path in map_folder().glob("*.SC2Map"))


def check_map(name: str) -> None:
    """ConfigError that says where was looked for the map's file and which maps there are, if there is no such file."""
    if name not in (names := map_names()):
        raise ConfigError(
            f"env_args.map_name={name}: there is no {map_folder() / name}.SC2Map{suggestion(name, names)}; "
            f"there are: {', '.join(names)}"
        )


def _package_problem() -> str:
    """What is wrong with the package `smac`. It is not imported: PyPI's takes long, and may fail in its own ways."""
    importlib.invalidate_caches()
    found = importlib.util.find_spec("smac")
    folders = [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []
    if any((folder / "env").is_dir() or (folder / "env.py").is_file() for folder in folders):
        return ""
    if any((folder / "facade").exists() for folder in folders):
        return (
            f"the installed package `smac` ({folders[0]}) is PyPI's, a hyper-parameter optimiser (SMAC3) of the same "
            "name; uninstall it (pip uninstall smac) and install the StarCraft Multi-Agent Challenge"
        )
    if found:
        return f"the installed package `smac` ({found.origin or folders[0]}) is not the StarCraft Multi-Agent Challenge"
    return "the package `smac` is not installed"
