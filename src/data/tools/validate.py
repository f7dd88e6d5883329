"""Everything that is wrong with a dataset, at once."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats import MUST_SAY, open_dataset
from inspo.data.tools.statistics import Statistics
from inspo.utils.errors import DatasetError
from inspo.utils.progress import Progress

PLACES_SHOWN, ACTIONS_SHOWN = 5, 12


class ValidationReport(NamedTuple):
    """What validation found."""

    errors: list[str]  # training would refuse the dataset
    remarks: list[str]  # it would not, but somebody should know


def validate(path: Path) -> ValidationReport:
    """Every check that loading makes, carried through to the end; a block of episodes at a time."""
    collected: list[Finding] = []
    try:
        with open_dataset(path, collected) as reader:
            found = Statistics(reader.sizes)
            shown = Progress(reader.n_episodes, "Checking")
            broken = False
            for block in reader.blocks():
                findings = list(block.findings())
                collected.extend(findings)
                broken = broken or bool(findings)
                if not broken:
                    found.add(block)
                shown.advance(block.n_episodes)
            shown.close()
            if collected:
                return ValidationReport(_merged(collected), [])
            reader.verify()
            return ValidationReport([], _remarks(found, reader.metadata))
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
        places = [place for finding in same for place in finding.places]
        more = sum(finding.count for finding in same) - len(places[:PLACES_SHOWN])
        where = f" at {'; '.join(places[:PLACES_SHOWN])}" if places else ""
        lines.append(
            f"field '{field}': {problem}{where}"
            + (f"; and at {more} more places" if more > 0 else "")
        )
    return lines


def _remarks(found: Statistics, metadata: dict) -> list[str]:
    result = found.results()
    remarks = []
    if result.truncated == 1:
        remarks.append(
            "no episode ever terminates: every value is bootstrapped from a cut (are the flags right?)"
        )
    if (result.returns == result.returns[0]).all() and len(result.returns) > 1:
        remarks.append(f"every episode returns {result.returns[0]:g}: there is nothing to prefer")
    if (single := int((result.lengths == 1).sum())) and result.lengths.max() > 1:
        remarks.append(
            f"{single} episodes have a single step: crashes of the game, or a faulty cut?"
        )
    if result.distinct_pairs < 0.5 * result.n_steps:
        share = 100 * result.distinct_pairs / result.n_steps
        remarks.append(
            f"only {share:.0f} % of the steps differ in state and joint action: the data repeats itself"
        )
    never = np.argwhere((found.available > 0).any(axis=0) & ~(found.counts > 0).any(axis=0)).ravel()
    if never.size:
        shown = ", ".join(map(str, never[:ACTIONS_SHOWN])) + (
            ", ..." if never.size > ACTIONS_SHOWN else ""
        )
        remarks.append(f"no agent ever takes action {shown}, though available")
    if missing := [key for key in MUST_SAY if key not in metadata]:
        remarks.append(
            f"it does not say where it comes from: {', '.join(missing)} unknown (convert can add them)"
        )
    return remarks
