"""A table as papers print it: algorithms in rows, datasets in columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inspo.sweeps.plan import Cell
from inspo.sweeps.spec import DATASET
from inspo.utils.names import TITLES

COLUMN_CHOICES = (DATASET, "env_args.map_name")
MAP_NAME = "env_args.map_name"


def paper_table(
    cells: Sequence[Cell], scores: Mapping[str, Sequence[float]], decimals: int, best: bool
) -> str:
    """Markdown: mean ± standard deviation over seeds, the best of each column in bold.

    Args:
        cells: of the sweep; their order is that of rows and columns.
        scores: by the cells' labels.
        best: whether a larger number is a better one; False: nothing is bold.
    """
    from inspo.comparison import markdown  # these load SciPy, which is slow
    from inspo.comparison.statistics import CellScores as Statistics
    from inspo.comparison.statistics import mark_best

    columns: dict[str, dict[str, Statistics]] = {}
    rows: dict[str, None] = {}
    for cell in cells:
        found = tuple(scores.get(cell.label, ()))
        rows[_row(cell)] = None
        column = columns.setdefault(_column(cell, cells), {})
        if found:
            column[_row(cell)] = Statistics(found, tuple(range(len(found))))
    if best:
        columns = {title: mark_best(column) for title, column in columns.items()}
    lines = [["", *map(markdown.escape, columns)]]
    for row in rows:
        texts = [markdown.cell_text(column.get(row), decimals) for column in columns.values()]
        lines.append([markdown.escape(row), *texts])
    return markdown.table(lines)


def _row(cell: Cell) -> str:
    """The algorithm and the settings that the grid varies."""
    name = Path(cell.algorithm).stem
    settings = [f"{k}={v}" for k, v in cell.choices.items() if k not in COLUMN_CHOICES]
    label = ", ".join(settings)
    title = TITLES.get(name, name)
    return f"{title}, {label}" if label else title


def _column(cell: Cell, cells: Sequence[Cell]) -> str:
    """The dataset and, where they differ, environment and map."""
    names = []
    if len({other.environment for other in cells}) > 1:
        names.append(Path(cell.environment).stem.removesuffix("_offline"))
    names += [str(cell.settings[key]) for key in (MAP_NAME, DATASET) if key in cell.settings]
    return " ".join(names) or Path(cell.environment).stem
