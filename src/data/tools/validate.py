"""Finds everything that is wrong with a dataset, in one pass."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats import REQUIRED_METADATA, open_dataset
from inspo.data.magnitudes import remarks as remarks_on
from inspo.data.tools.statistics import Statistics
from inspo.utils.errors import DatasetError

REPEATED_LIMIT = 0.1  # of the episodes
PLACES_SHOWN, ACTIONS_SHOWN = 5, 12


class ValidationReport(NamedTuple):
    """What validation found."""

    errors: list[str]  # training refuses the dataset
    remarks: list[str]  # training does not, but they may be mistakes


def validate(path: Path) -> ValidationReport:
    """Makes every check that loading makes, and does not stop at the first error."""
    collected: list[Finding] = []
    try:
        with open_dataset(path, collected) as reader:
            counted = Statistics(reader.sizes)
            for block in reader.shown_blocks("Checking"):
                collected.extend(block.findings())
                if not collected:
                    counted.add(block)
            if collected:
                return ValidationReport(_merged(collected), [])
            reader.verify()
            return ValidationReport([], list(_remarks(counted, reader.metadata)))
    except DatasetError as error:
        return ValidationReport([*_merged(collected), *_lines(path, error)], [])


def _lines(path: Path, error: DatasetError) -> list[str]:
    text = str(error).removeprefix(f"{path}:").strip()
    return [line.strip() for line in text.split("\n  ")]


def _merged(findings: list[Finding]) -> list[str]:
    """One line for each kind of problem of each field, with its first places and their number."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.field, finding.problem), []).append(finding)
    lines = []
    for (field, problem), same in kinds.items():
        line = f"field '{field}': {problem}"
        places = [place for finding in same for place in finding.places]
        places = places[:PLACES_SHOWN]
        if places:
            line += f" at {'; '.join(places)}"
        more = sum(finding.count for finding in same) - len(places)
        if more > 0:
            line += f"; and at {more} more places"
        lines.append(line)
    return lines


def _remarks(counted: Statistics, metadata: dict[str, Any]) -> Iterator[str]:
    """What is unusual about a valid dataset."""
    result = counted.results()
    returns, lengths = result.returns, result.lengths
    if result.truncated == 1:
        yield "no episode ever terminates: all last values are bootstrapped. Are the flags right?"
    if len(returns) > 1 and (returns == returns[0]).all():
        yield f"every episode returns {returns[0]:g}: no episode is better than another"
    n_single = int((lengths == 1).sum())
    if n_single and lengths.max() > 1:
        yield f"{n_single} episodes have a single step: crashes of the game, or cut too early?"
    share = result.distinct_pairs / result.n_steps
    if share < 0.5:
        yield f"only {share:.0%} of the steps differ in state and joint action: repeated data?"
    yield from remarks_on(counted.largest)
    repeated = len(lengths) - result.distinct_episodes
    if repeated > REPEATED_LIMIT * len(lengths):
        yield f"{repeated} of the {len(lengths)} episodes repeat another one"
    if never := _never_taken(counted):
        shown = ", ".join(map(str, never[:ACTIONS_SHOWN]))
        more = ", ..." if len(never) > ACTIONS_SHOWN else ""
        yield f"no agent ever takes action {shown}{more}, though it is available"
    if missing := [key for key in REQUIRED_METADATA if key not in metadata]:
        yield f"the metadata lacks {', '.join(missing)}; convert can add them"


def _never_taken(counted: Statistics) -> list[int]:
    available = (counted.available > 0).any(axis=0)
    taken = (counted.counts > 0).any(axis=0)
    return np.flatnonzero(available & ~taken).tolist()
