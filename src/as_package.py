"""Makes this folder the package `inspo` for the scripts in it, installed or not.

`python src/main.py` puts src/ on the import path. That would make `envs` and `utils` top-level
packages, which could hide those of other projects. So src/ is removed from the path. Scripts run
this file by its own path, since `python -P` does not put src/ there.
"""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def register() -> None:
    """Loads `inspo` from this folder, even where another copy of the project is installed."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
    spec = importlib.util.spec_from_file_location(
        "inspo", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["inspo"] = package
    spec.loader.exec_module(package)


register()
