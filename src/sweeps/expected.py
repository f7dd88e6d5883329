"""What an experiment's scores should be, and where that is known from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from inspo.sweeps.plan import Cell
from inspo.sweeps.spec import DATASET, Spec, checked
from inspo.utils.errors import ConfigError
from inspo.utils.values import shown
from inspo.utils.yaml_files import read_yaml

Measure = Literal["final", "last5", "best", "seconds_per_step"]
Range = tuple[float, float]
ROUNDING = 1e-9


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Part):
    """Where the mean over seeds should lie, for the cells that `where` describes.

    Args:
        where: algorithm, environment, dataset or settings: what remains of the YAML's keys.
        mean: lowest and highest value.
        source: one of the file's `sources`.
        ratio_to: what differs in the cell that the mean is divided by.
        why: in words.
    """

    where: dict[str, Any]
    mean: Range
    source: str
    ratio_to: dict[str, Any] = {}
    why: str = ""

    @model_validator(mode="before")
    @classmethod
    def _collect_where(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = {key: values[key] for key in cls.model_fields if key in values}
        return {**own, "where": {key: values[key] for key in values if key not in own}}

    @field_validator("mean")
    @classmethod
    def _ordered(cls, mean: Range) -> Range:
        if mean[0] > mean[1]:
            raise ValueError("the lowest value stands first")
        return mean

    def holds(self, value: float) -> bool:
        """Whether the value lies in the band."""
        low, high = self.mean
        return low - ROUNDING <= value <= high + ROUNDING


class Quick(_Part):
    """What `--quick` changes: a smaller sweep, and bands of its own that come first."""

    seeds: Any = 0
    settings: dict[str, Any] = {}
    bands: list[Band] = []


class Expected(_Part):
    """An experiment's NAME.expected.yaml.

    Args:
        title: of the table.
        about: what it shows; stands above the table.
        sources: by name, where bands come from.
        quick: None: there is no small version.
    """

    title: str
    about: str = ""
    measure: Measure = "final"
    sources: dict[str, str]
    bands: list[Band]
    quick: Quick | None = None

    @model_validator(mode="after")
    def _known_sources(self) -> "Expected":
        if unknown := {band.source for band in self.all_bands} - self.sources.keys():
            raise ValueError(f"sources lacks {', '.join(sorted(unknown))}")
        return self

    @property
    def all_bands(self) -> list[Band]:
        """Those of the small version, too."""
        return [*self.bands, *(self.quick.bands if self.quick else [])]

    def check_covers(self, cells: Sequence[Cell]) -> None:
        """Raises ConfigError if a band describes no cell: it would check nothing."""
        unused = [
            shown(band.where)
            for band in self.all_bands
            if not any(matches(band.where, cell) for cell in cells)
        ]
        if unused:
            raise ConfigError(f"bands that describe no cell: {'; '.join(unused)}")

    def band_of(self, cell: Cell, quick: bool) -> Band | None:
        """The first band that describes a cell; None: there is none."""
        first = self.quick.bands if quick and self.quick else []
        fitting = (band for band in (*first, *self.bands) if matches(band.where, cell))
        return next(fitting, None)


class BandCheck(NamedTuple):
    """One cell against its band. `passed` is None if there is no band for it."""

    cell: Cell
    value: float | None  # None: no run is finished
    n: int
    band: Band | None
    passed: bool | None

    def line(self, decimals: int = 2) -> str:
        """Such as `pass  inspo xor_offline dataset=b: 0.97 in [0.95, 1] (theory)`."""
        word = {True: "pass", False: "FAIL", None: "----"}[self.passed]
        value = "no finished run" if self.value is None else f"{self.value:.{decimals}f}"
        if self.band is None:
            return f"{word}  {self.cell.label}: {value}, no band"
        low, high = self.band.mean
        other = ", ".join(f"{key}={value}" for key, value in self.band.ratio_to.items())
        ratio = f" times {other}" if other else ""
        inside = "in" if self.passed else "not in"
        why = f": {self.band.why}" if self.band.why else ""
        place = f"{inside} [{low:g}, {high:g}]{ratio} ({self.band.source}{why})"
        return f"{word}  {self.cell.label}: {value} {place}, n={self.n}"


def read_expected(path: Path) -> Expected:
    """What an experiment expects.

    Raises:
        ConfigError: lists what is wrong in the file.
    """
    return checked(Expected, read_yaml(path), str(path))


def quick_version(spec: Spec, expected: Expected) -> Spec:
    """The small sweep.

    Raises:
        ConfigError: the experiment has none.
    """
    quick = expected.quick
    if quick is None:
        raise ConfigError(f"{spec.name} has no --quick version: its runs are long")
    values = spec.model_dump()
    values |= {
        "name": f"{spec.name}-quick",
        "seeds": quick.seeds,
        "settings": {**spec.settings, **quick.settings},
    }
    return checked(Spec, values, spec.name).beside(spec.folder)


def check_cells(
    scores: Mapping[str, Sequence[float]], cells: Sequence[Cell], expected: Expected, quick: bool
) -> list[BandCheck]:
    """Holds every cell against its band.

    Args:
        scores: of each cell's finished runs, by the cells' labels.
    """
    checks = []
    for cell in cells:
        found = scores.get(cell.label, ())
        band = expected.band_of(cell, quick)
        value = _value(cell, cells, scores, band)
        passed = None if band is None else value is not None and band.holds(value)
        checks.append(BandCheck(cell, value, len(found), band, passed))
    return checks


def matches(where: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a cell has these values."""
    values = _values(cell)
    return all(key in values and str(values[key]) == str(where[key]) for key in where)


def _values(cell: Cell) -> dict[str, Any]:
    names = {
        "algorithm": Path(cell.algorithm).stem,
        "environment": Path(cell.environment).stem,
        "dataset": cell.settings.get(DATASET),
        "map_name": cell.settings.get("env_args.map_name"),
    }
    return {**cell.settings, **names}


def _value(
    cell: Cell, cells: Sequence[Cell], scores: Mapping[str, Sequence[float]], band: Band | None
) -> float | None:
    """The mean over seeds; with `ratio_to` divided by that of another cell."""
    mean = _mean(scores.get(cell.label, ()))
    if mean is None or band is None or not band.ratio_to:
        return mean
    wanted = {**_values(cell), **band.ratio_to}
    keys = {"algorithm", "environment", *cell.choices}
    other = next((c for c in cells if matches({key: wanted[key] for key in keys}, c)), None)
    reference = None if other is None else _mean(scores.get(other.label, ()))
    return mean / reference if reference else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
