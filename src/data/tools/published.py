"""Compares a dataset with what its makers publish of it (`published.yaml`)."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspo.utils.yaml_files import read_yaml

PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
# How far from the published numbers a dataset may be. Its makers count an unfinished episode at the
# end and the last step of truncated episodes, which are not read.
COUNT_TOLERANCE = 0.02  # of the number
RETURN_TOLERANCE = 0.02  # of the range of returns
SHARE_TOLERANCE = 0.02


class Published(NamedTuple):
    """What is published of a dataset; see `published.yaml`."""

    name: str  # source/env/scenario/name
    mean: float
    std: float
    min: float
    max: float
    transitions: int
    episodes: int
    distinct_pairs: float

    def summary(self) -> str:
        """One line for the user."""
        return (
            f"{self.episodes} episodes, {self.transitions} steps, return {self.mean:g} +- "
            f"{self.std:g} ({self.min:g} to {self.max:g}), "
            f"{100 * self.distinct_pairs:.4g} % distinct pairs"
        )

    def differences(
        self, lengths: np.ndarray, returns: np.ndarray, distinct_pairs: float | None = None
    ) -> Iterator[str]:
        """How a dataset differs from what is published, beyond rounding.

        Args:
            lengths, returns: of all its episodes.
            distinct_pairs: the share of distinct pairs of state and joint action, if counted.
        """
        counts = {"episodes": len(lengths), "transitions": int(lengths.sum())}
        for name, found in counts.items():
            expected = getattr(self, name)
            if abs(found - expected) > max(1, COUNT_TOLERANCE * expected):
                yield f"{name}: {found} here, {expected} published"
        margin = RETURN_TOLERANCE * (self.max - self.min) + 1e-3 * abs(self.mean)
        values = {"mean": returns.mean(), "min": returns.min(), "max": returns.max()}
        for name, value in values.items():
            expected = getattr(self, name)
            if abs(value - expected) > margin:
                yield f"{name} of the returns: {value:.4g} here, {expected:g} published"
        off = 0.0 if distinct_pairs is None else abs(distinct_pairs - self.distinct_pairs)
        if off > SHARE_TOLERANCE:
            found, published = 100 * distinct_pairs, 100 * self.distinct_pairs
            what = "distinct pairs of state and joint action"
            yield f"{what}: {found:.1f} % here, {published:.1f} % published"


@cache
def all_published() -> dict[str, Published]:
    """Everything in `published.yaml`, by `source/env/scenario/name`."""
    found = {}
    for source, environments in read_yaml(PUBLISHED_FILE).items():
        for environment, scenarios in environments.items():
            for scenario, datasets in scenarios.items():
                for name, numbers in datasets.items():
                    key = f"{source}/{environment}/{scenario}/{name}"
                    found[key] = Published(key, **numbers)
    return found


def published_for(path: Path) -> Published | None:
    """What is published of the Vault at `path`: `.../source/env/scenario.vlt/name`, as fetched."""
    parts = [part.removesuffix(".vlt") for part in Path(path).absolute().parts[-4:]]
    return all_published().get("/".join(parts))


def of_scenario(name: str) -> list[Published]:
    """What is published of the datasets in `source/env/scenario`."""
    found = all_published().items()
    return [published for key, published in found if key.rpartition("/")[0] == name]


def warnings_for(path: Path, lengths: np.ndarray, returns: np.ndarray) -> list[str]:
    """What differs from what is published of a dataset; empty if nothing is published of it."""
    published = published_for(path)
    text = "; ".join(published.differences(lengths, returns)) if published else ""
    if not text:
        return []
    return [f"not what is published of {published.name} (another download, or a part?): {text}"]
