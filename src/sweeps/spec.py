"""What a sweep compares, as its YAML describes it. `docs/sweeps.md` explains the keys."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from inspo.utils.errors import ConfigError
from inspo.utils.values import shown
from inspo.utils.yaml_files import read_yaml

# Settings that the sweep itself gives to each run.
OWN_SETTINGS = {
    "seed": "`seeds` lists them",
    "checkpoint_path": "the sweep resumes its runs itself",
    "load_step": "the sweep resumes its runs itself",
    "evaluate": "a sweep trains; `python src/main.py ... evaluate=True` evaluates a checkpoint",
}
# Settings that all runs of a sweep share.
SHARED_SETTINGS = {"local_results_path": "a sweep has one folder; only its own `settings` name it"}
DATASET = "env_args.dataset"
FOLDER_NAME = re.compile(r"[\w+-][\w.+-]*")
SEED_RANGE = re.compile(r"(\d+)-(\d+)")
MAX_SEEDS = 10_000
Settings = dict[str, Any]
Grid = dict[str, list[Any]]
Model = TypeVar("Model", bound=BaseModel)


class _Part(BaseModel):
    """A part of the YAML, whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @field_validator("settings", "grid", mode="before", check_fields=False)
    @classmethod
    def _flatten(cls, values: Any) -> Any:
        """`env_args: {map_name: x}` as `env_args.map_name: x`."""
        values = {} if values is None else values
        if not isinstance(values, dict):
            return values
        nested = values.get("env_args")
        if not isinstance(nested, dict):
            return values
        flat = {f"env_args.{name}": entry for name, entry in nested.items()}
        if repeated := sorted(flat.keys() & values.keys()):
            raise ValueError(f"given twice: {', '.join(repeated)}")
        return {key: value for key, value in values.items() if key != "env_args"} | flat

    @field_validator("settings", "grid", check_fields=False)
    @classmethod
    def _leave_own_settings(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        of_the_sweep = cls is Spec and info.field_name == "settings"
        refused = OWN_SETTINGS if of_the_sweep else {**OWN_SETTINGS, **SHARED_SETTINGS}
        if found := sorted(refused.keys() & values.keys()):
            raise ValueError("; ".join(f"{key}: {refused[key]}" for key in found))
        return values

    @field_validator("datasets", mode="before", check_fields=False)
    @classmethod
    def _one_dataset(cls, datasets: Any) -> Any:
        return [datasets] if isinstance(datasets, str) else datasets

    @field_validator("grid", check_fields=False)
    @classmethod
    def _no_empty_lists(cls, grid: Grid) -> Grid:
        if empty := [key for key, values in grid.items() if not values]:
            raise ValueError(f"no values for {', '.join(empty)}")
        return grid


class Member(_Part):
    """What is special of one algorithm or environment."""

    settings: Settings = {}
    grid: Grid = {}
    datasets: list[str] = []


class Override(_Part):
    """Settings of those cells that `where` describes; with `skip` they are left out."""

    where: Annotated[dict[str, Any], Field(min_length=1)]
    settings: Settings = {}
    skip: bool = False


class Resources(_Part):
    """What one run takes. Fractions let several runs share a processor or a GPU."""

    cpus: Annotated[float, Field(gt=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("above 1 it must be a whole number")
        return gpus


class Spec(_Part):
    """A sweep: every algorithm on every dataset of every environment, with every seed."""

    name: str = "sweep"
    algorithms: dict[str, Member]
    environments: dict[str, Member]
    datasets: list[str] = []
    settings: Settings = {}
    grid: Grid = {}
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = [0]
    overrides: list[Override] = []
    resources: Resources = Resources()
    at_once: Annotated[int, Field(ge=1)] | None = None

    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The folder that paths of YAMLs are relative to; None: the current one."""
        return self._folder

    def beside(self, folder: Path | None) -> "Spec":
        """The same sweep, whose YAMLs of algorithms and environments lie in that folder."""
        copy = self.model_copy()
        copy._folder = folder
        return copy

    @field_validator("name")
    @classmethod
    def _fits_a_folder(cls, name: str) -> str:
        if not FOLDER_NAME.fullmatch(name):
            raise ValueError("a folder's name may hold letters, digits, and + - _ .")
        return name

    @field_validator("algorithms", "environments", mode="before")
    @classmethod
    def _members(cls, members: Any) -> Any:
        """A name, a list of names, or names with what is special of each."""
        if isinstance(members, str):
            members = [members]
        if isinstance(members, list):
            if not all(isinstance(name, str) and name for name in members):
                raise ValueError("a list must hold names")
            if repeated := {name for name in members if members.count(name) > 1}:
                raise ValueError(f"named twice: {', '.join(sorted(repeated))}")
            members = dict.fromkeys(members)
        if isinstance(members, dict):
            members = {name: {} if part is None else part for name, part in members.items()}
        if not members:
            raise ValueError("at least one name is needed")
        return members

    @field_validator("algorithms")
    @classmethod
    def _no_datasets(cls, members: dict[str, Member]) -> dict[str, Member]:
        if found := [name for name, member in members.items() if member.datasets]:
            raise ValueError(f"{', '.join(found)}: datasets belong to environments")
        return members

    @field_validator("seeds", mode="before")
    @classmethod
    def _seed_list(cls, seeds: Any) -> Any:
        """One seed, a list, or a range as `0-4`."""
        entries = seeds if isinstance(seeds, list) else [seeds]
        found: list[Any] = []
        for entry in entries:
            found += _seed_range(entry)
        if not found or len(found) > MAX_SEEDS:
            raise ValueError(f"from 1 to {MAX_SEEDS:,} seeds are possible")
        if len(set(map(str, found))) < len(found):
            raise ValueError("a seed is named twice")
        return found


def _seed_range(entry: Any) -> list[Any]:
    """`0-4` as five seeds; anything else as it is."""
    if isinstance(entry, bool):  # pydantic takes true for 1
        raise ValueError(f"{str(entry).lower()} is no seed")
    ends = SEED_RANGE.fullmatch(entry.strip()) if isinstance(entry, str) else None
    if ends is None:
        return [entry]
    first, last = int(ends[1]), int(ends[2])
    if last < first or last - first >= MAX_SEEDS:
        raise ValueError(f"{entry} is no range of at most {MAX_SEEDS:,} seeds")
    return list(range(first, last + 1))


def read_spec(path: Path) -> Spec:
    """The sweep that a YAML describes. Without `name`, it has the file's.

    Raises:
        ConfigError: lists all that is wrong.
    """
    name = re.sub(r"[^\w.+-]+", "-", path.stem).lstrip(".")  # fits a folder
    return spec_from({"name": name, **read_yaml(path)}, str(path)).beside(path.parent)


def spec_from(values: Mapping[str, Any], source: str = "the sweep") -> Spec:
    """The sweep with these values.

    Raises:
        ConfigError: lists all that is wrong in `source`.
    """
    return checked(Spec, values, source)


def checked(schema: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """A checked description from plain, nested values.

    Raises:
        ConfigError: lists all that is wrong, and where in `source`.
    """
    try:
        return schema(**values)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
        raise ConfigError("\n  ".join([f"{source}:", *problems])) from None


def _problem(item: Any) -> str:
    """Such as `resources.gpus: above 1 it must be a whole number (given: 1.5)`."""
    place = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{place} is missing"
    if item["type"] == "extra_forbidden":
        return f"unknown key '{place}'"
    message = item["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (given: {shown(item['input'])})"
