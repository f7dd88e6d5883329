"""The table of a sweep's runs."""

from typing import TYPE_CHECKING

from inspo.sweeps.sweep import SweepResult

if TYPE_CHECKING:
    from inspo.comparison.tables import ComparisonTable


def table_of(result: SweepResult) -> "ComparisonTable":
    """The finished runs in one table.

    The sweep's own settings say how runs differ, so that protocols may. They get rows of their own.

    Raises:
        ComparisonError: the runs have no scores, or cannot share a table.
    """
    from inspo.comparison.command import compare_runs  # loads SciPy, which is slow
    from inspo.comparison.settings import PROTOCOL

    folders = [run.folder for run in result.runs]
    configs = [run.config for run in result.runs]
    differing = [key for key in PROTOCOL if len({config[key] for config in configs}) > 1]
    return compare_runs(folders, allow=differing)
