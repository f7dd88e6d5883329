"""The runs of a sweep: every cell of its table with every seed, all of them checked."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspo.data.catalogue import resolve_dataset
from inspo.run.settings import settings_of
from inspo.sweeps.identity import identity
from inspo.sweeps.spec import DATASET, Member, Spec
from inspo.utils.config import OnlineConfig, RunConfig
from inspo.utils.errors import ConfigError, UserError
from inspo.utils.files import RESULTS, dataset_root, folder_of
from inspo.utils.names import suggestion
from inspo.utils.values import shown
from inspo.utils.words import as_word

MAX_RUNS = 100_000
PROBLEM_CELLS = 3  # that a message names


@dataclass(frozen=True)
class Cell:
    """An algorithm in an environment, with the values of the grid: one run for each seed."""

    algorithm: str
    environment: str
    choices: Mapping[str, Any]  # the grid's keys, among them env_args.dataset
    settings: Mapping[str, Any]  # all settings that differ from the YAMLs', those of the grid too

    @property
    def label(self) -> str:
        """Such as `inspo xor_offline dataset=b updates_per_agent=10`."""
        values = [f"{key.rpartition('.')[2]}={value}" for key, value in self.choices.items()]
        names = (Path(name).stem for name in (self.algorithm, self.environment))
        return " ".join([*names, *values])


@dataclass(frozen=True)
class PlannedRun:
    """One run: what `python src/main.py` would be called with, and what that means."""

    cell: Cell
    seed: int
    words: tuple[str, ...]
    config: RunConfig

    @property
    def command(self) -> list[str]:
        """The same run without the sweep."""
        options = [f"--config={self.cell.algorithm}", f"--env-config={self.cell.environment}"]
        return ["python", "src/main.py", *options, "with", *self.words]

    @property
    def identity(self) -> str:
        """Equal for runs of equal settings."""
        return identity(self.config.model_dump())

    @property
    def id(self) -> str:
        """A file's name, the same in every sweep."""
        text = re.sub(r"[^\w.+-]+", "-", f"{self.cell.label} seed{self.seed}")
        return f"{text[:100]}_{self.identity[:6]}"


def make_plan(spec: Spec) -> list[PlannedRun]:
    """All runs, by seed: each seed of the whole table before the next one.

    Raises:
        ConfigError: lists what is wrong in any cell.
    """
    folder = runs_folder(spec)
    cells = list(make_cells(spec))
    if not cells:
        raise ConfigError("every cell of the sweep is skipped")
    if len(cells) * len(spec.seeds) > MAX_RUNS:
        raise ConfigError(f"{len(cells):,} cells with {len(spec.seeds):,} seeds are too many runs")
    problems: dict[str, list[str]] = {}
    configs = []
    for cell in cells:
        try:
            configs.append(_config(cell, folder))
        except UserError as error:
            problems.setdefault(str(error), []).append(cell.label)
    if problems:
        raise ConfigError("\n".join(_problem(text, *labels) for text, labels in problems.items()))
    plan = [
        PlannedRun(cell, seed, (*words, f"seed={seed}"), config.model_copy(update={"seed": seed}))
        for seed in spec.seeds
        for cell, (words, config) in zip(cells, configs, strict=True)
    ]
    _refuse_equal_runs(plan)
    return plan


def runs_folder(spec: Spec) -> Path:
    """The folder of the sweep's runs: its name, in results/ or in `local_results_path`."""
    return folder_of(spec.settings.get("local_results_path"), RESULTS) / spec.name


def make_cells(spec: Spec) -> Iterator[Cell]:
    """All cells that no override skips. Later settings win, see docs/sweeps.md.

    Raises:
        ConfigError: an override describes no cell.
    """
    used: set[int] = set()
    for env_name, alg_name, choices in _combinations(spec):
        algorithm, environment = spec.algorithms[alg_name], spec.environments[env_name]
        settings = {**spec.settings, **environment.settings, **algorithm.settings, **choices}
        names = {"algorithm": alg_name, "environment": env_name}
        skip = False
        for number, override in enumerate(spec.overrides):
            if _matches(override.where, {**settings, **names}):
                used.add(number)
                settings |= override.settings
                skip = skip or override.skip
        if not skip:
            chosen = {key: settings[key] for key in choices}  # an override may have changed one
            yield Cell(_path(alg_name, spec), _path(env_name, spec), chosen, settings)
    for number, override in enumerate(spec.overrides):
        if number not in used:
            raise ConfigError(_unused(override.where, spec))


def _combinations(spec: Spec) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Environment, algorithm and values of the grid, for each cell."""
    for env_name, environment in spec.environments.items():
        for alg_name, algorithm in spec.algorithms.items():
            grid = {**_grid(spec), **_grid(environment), **algorithm.grid}
            for values in itertools.product(*grid.values()):
                yield env_name, alg_name, dict(zip(grid, values, strict=True))


def _grid(part: Spec | Member) -> dict[str, list[Any]]:
    datasets = {DATASET: part.datasets} if part.datasets else {}
    return {**datasets, **part.grid}


def _matches(where: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether a cell has one of the values that `where` gives for each of its keys."""
    for key, wanted in where.items():
        key = DATASET if key == "dataset" else key
        several = wanted if isinstance(wanted, list) else [wanted]
        if key not in values or str(values[key]) not in map(str, several):
            return False
    return True


def _unused(where: Mapping[str, Any], spec: Spec) -> str:
    known = {"algorithm", "environment", "dataset"}
    for part in (spec, *spec.algorithms.values(), *spec.environments.values()):
        known |= part.grid.keys() | part.settings.keys()
    unknown = [key for key in where if key not in known]
    near = suggestion(str(unknown[0]), known) if unknown else ""
    return f"overrides: where={shown(dict(where))} describes no cell{near}"


def _path(name: str, spec: Spec) -> str:
    """Paths of YAMLs are relative to the sweep's own."""
    if name.endswith(".yaml") and spec.folder is not None:
        return str(spec.folder / Path(name).expanduser())
    return name


def _config(cell: Cell, folder: Path) -> tuple[list[str], RunConfig]:
    """The words after `with` and the settings of a cell, without a seed."""
    settings = {"group": folder.name, **cell.settings, "local_results_path": str(folder)}
    words = [as_word(key, value) for key, value in settings.items()]
    config = settings_of(cell.algorithm, cell.environment, words)
    if not isinstance(config, OnlineConfig) and not config.env_args["dataset"]:
        raise ConfigError(
            "it learns offline, and has no dataset: `datasets` or env_args.dataset names one"
        )
    root = dataset_root(config.dataset_root)
    return words, resolve_dataset(config, root)


def _problem(text: str, *cells: str) -> str:
    """A problem, and the cells that have it."""
    more = f" and {len(cells) - PROBLEM_CELLS} more" if len(cells) > PROBLEM_CELLS else ""
    return f"{', '.join(cells[:PROBLEM_CELLS])}{more}: {text}"


def _refuse_equal_runs(plan: list[PlannedRun]) -> None:
    """Raises ConfigError if two cells are the same run."""
    first: dict[str, PlannedRun] = {}
    problems = []
    for run in plan:
        other = first.setdefault(run.identity, run)
        if other is not run and run.seed == plan[0].seed:
            problems.append(f"{other.cell.label} and {run.cell.label} are the same run")
    if problems:
        raise ConfigError("\n".join(problems))
