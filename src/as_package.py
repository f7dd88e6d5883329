"""Makes this folder the package `inspo` for the scripts in it, whether the project is installed or not.

`python src/main.py` puts src/ itself on the import path. Its folders would then be packages called
`envs` or `utils`, and hide those of other projects. So src/ leaves the path again.
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
