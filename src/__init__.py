"""InSPO for offline multi-agent reinforcement learning.

The names in `__all__` are the Python interface. `docs/python-interface.md` is its page, and
`inspo/api.py` documents each of them. They are loaded when they are first used, so that
`import inspo` is quick and needs neither PyTorch nor HDF5.
"""

import importlib
import os
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspo.api import (
        EpisodeData,
        Run,
        UserError,
        compare,
        evaluate,
        from_episodes,
        load_dataset,
        load_policy,
        make_env,
        record_gymnasium,
        record_parallel,
        sweep,
        train,
        watch,
        write_dataset,
    )

__all__ = [
    "EpisodeData",
    "Run",
    "UserError",
    "compare",
    "evaluate",
    "from_episodes",
    "load_dataset",
    "load_policy",
    "make_env",
    "record_gymnasium",
    "record_parallel",
    "sweep",
    "train",
    "watch",
    "write_dataset",
]


class _Package(ModuleType):
    """Keeps `inspo.compare`, `inspo.sweep` and `inspo.watch` the functions.

    Python sets a module as an attribute of its package when it is first imported. The scripts
    compare.py, sweep.py and watch.py would replace the functions of their names.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

# PyTorch's idle threads (libgomp's) wait busily, which slows runs that share processors many times.
# After a thousand looks they sleep. libgomp reads this when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# sacred imports pkg_resources, which says so at every start.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module("inspo.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
