"""The cards of the policies in src/policies, which play built-in datasets of battles on SMAX.

A map has two files there:

MAP.pt     `config`, from which the policies are built, and their weights by name
MAP.yaml   the card: how they were trained, how often they win, and which play which dataset. It
           ends with YAML's mark `...`, so that one that was cut off is noticed

`benchmarks/ship_policies.py` makes both from run folders.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from inspo.utils.errors import ConfigError
from inspo.utils.yaml_files import read_yaml

POLICIES = Path(__file__).resolve().parents[1] / "policies"
SHIPPED = "-shipped-"  # in the names of files, between dataset and version
HESITANT = "hesitant"  # by the policies of `expert`, whose units often stand still


def card_of(map_name: str) -> dict[str, Any] | None:
    """What is known of a map's policies; None if there are none.

    Raises:
        ConfigError: the card is damaged.
    """
    path = POLICIES / f"{map_name}.yaml"
    if not path.is_file() or not path.with_suffix(".pt").is_file():
        return None
    card = read_yaml(path)
    with path.open("rb") as file:
        ends = [event for event in yaml.parse(file) if isinstance(event, yaml.DocumentEndEvent)]
    problem = None
    if not ends[-1].explicit:
        problem = "its last line, `...`, is missing"
    elif not isinstance(card.get("datasets"), dict):
        problem = "no datasets"
    if problem:
        raise ConfigError(f"{path} is damaged: {problem}; get that file of the project again")
    return card


def cards() -> Iterator[dict[str, Any]]:
    """The cards of all maps."""
    for path in sorted(POLICIES.glob("*.yaml")):
        if card := card_of(path.stem):
            yield card


def shipped_datasets(card: dict[str, Any]) -> dict[str, list[str]]:
    """The datasets that a map's policies play, each with the names of its policies."""
    datasets = card["datasets"]
    if "expert" in datasets:
        return {**datasets, HESITANT: datasets["expert"]}
    return datasets
