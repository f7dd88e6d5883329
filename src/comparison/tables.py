"""The result of a comparison: a table that prints as Markdown, LaTeX or CSV, with curves."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inspo.comparison import aggregate_figures, bars, figures, latex, markdown, marl_eval
from inspo.comparison.aggregate import Aggregate, aggregate
from inspo.comparison.comparison import RETURN, WIN_RATE, Comparison
from inspo.comparison.curves import read_curves
from inspo.comparison.grouping import Column, Row
from inspo.comparison.runs import SkippedRun
from inspo.comparison.statistics import CellScores, mark_best
from inspo.utils.files import write_atomically

METRIC_NAMES = {RETURN: "return", WIN_RATE: "win rate"}
SCORE_NAMES = {
    "final": "at the last evaluation",
    "last5": "mean of the last five evaluations",
    "best": "best evaluation, selected after the fact and therefore optimistic",
}
ACTIONS = {False: "sampled", True: "greedy"}  # of test_greedy


class ComparisonTable:
    """Scores by row (algorithm) and column (environment and dataset).

    The best cell of each column is marked, and the others are tested against it.

    Attributes:
        cells: scores with their statistics, by row and column.
        skipped: run folders that the table leaves out, with the reasons.
        warnings: what a reader should know before trusting the numbers.
    """

    def __init__(self, comparison: Comparison):
        self.comparison = comparison
        self.curves, curve_warnings = read_curves(comparison)
        self.warnings: list[str] = comparison.warnings + curve_warnings
        self.skipped: list[SkippedRun] = comparison.skipped
        self.cells: dict[tuple[Row, Column], CellScores] = {}
        for column in comparison.columns:
            marked = mark_best(self._column_cells(column))
            self.cells |= {(row, column): cell for row, cell in marked.items()}

    def __str__(self) -> str:
        """The table as Markdown, with a line below it if there are warnings or skipped runs."""
        text = self.to_markdown()
        if self.warnings or self.skipped:
            text += f"\n\nWarnings: {len(self.warnings)}. Skipped run folders: {len(self.skipped)}."
        return text

    def _repr_markdown_(self) -> str:
        """What notebooks show."""
        return str(self)

    def to_markdown(self, decimals: int = 2) -> str:
        """The table, padded so that it is readable as plain text."""
        titles = [f"{column.title}{self._unit(column)}" for column in self.comparison.columns]
        lines = [["", *map(markdown.escape, titles)]]
        for row in self.comparison.rows:
            cells = [markdown.cell_text(cell, decimals) for cell in self._row_cells(row)]
            lines.append([markdown.escape(row.label), *cells])
        return markdown.table(lines)

    def to_latex(self, decimals: int = 2) -> str:
        """A booktabs tabular: environments above their datasets, the notes as comments."""
        header = [
            (column.environment, f"{column.dataset}{self._unit(column)}")
            for column in self.comparison.columns
        ]
        lines = []
        for row in self.comparison.rows:
            cells = [latex.cell_text(cell, decimals) for cell in self._row_cells(row)]
            lines.append([row.label, *cells])
        return latex.tabular(header, lines, self.notes())

    def to_csv(self) -> str:
        """One line for each cell, with all digits; `scores` are in the order of `seeds`."""
        lines = [self._csv_line(row, column) for row, column in self.cells]
        file = io.StringIO()
        writer = csv.DictWriter(file, fieldnames=lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return file.getvalue()

    def aggregate(self, references: Mapping[str, Sequence[float]] | None = None) -> Aggregate:
        """Statistics over all columns: interquartile mean, performance profiles and more.

        Args:
            references: pattern of a column's title or environment -> minimum and maximum of its
                normalised scores. Needed where metric and dataset do not say.

        Raises:
            ComparisonError: see `inspo.comparison.aggregate.aggregate`.
        """
        return aggregate(self.comparison, references)

    def to_marl_eval(self) -> str:
        """JSON in the layout of marl-eval."""
        return marl_eval.to_json(self.comparison, self.curves)

    def save(
        self,
        folder: str | Path,
        decimals: int = 2,
        command: str = "",
        aggregated: Aggregate | None = None,
    ) -> list[Path]:
        """Writes the table as Markdown, LaTeX, CSV and JSON, and the figures as PNG and PDF.

        Args:
            folder: made if it does not exist.
            command: the command line that made the table; the Markdown file shows it.
            aggregated: written beside the table, with its figure.

        Returns:
            the files.
        """
        folder = Path(folder)
        pictures = figures.draw(self.comparison, self.curves, folder / "learning_curves")
        pictures += bars.draw(self.comparison, self.cells, folder / "scores")
        texts = {
            folder / "comparison.md": self._document(decimals, pictures, command),
            folder / "comparison.tex": self.to_latex(decimals) + "\n",
            folder / "comparison.csv": self.to_csv(),
            folder / "marl_eval.json": self.to_marl_eval() + "\n",
        }
        if aggregated is not None:
            pictures += aggregate_figures.draw(aggregated, folder / "aggregate")
            texts[folder / "aggregate.md"] = aggregated.document(decimals)
            texts[folder / "aggregate.csv"] = aggregated.to_csv()
        for path, text in texts.items():
            with write_atomically(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return [*texts, *pictures]

    def notes(self) -> list[str]:
        """The meaning of numbers and marks, and each column's protocol."""
        score = SCORE_NAMES[self.comparison.selection.score]
        notes = [
            f"Mean ± standard deviation (with n - 1) over n seeds. Score: {score}.",
            "Bold: the best of its column. *: not significantly different from it "
            "(Welch's t-test, two-sided, 5 %, not corrected for several comparisons).",
        ]
        if any(cell.untested for cell in self.cells.values()):
            notes.append("†: not tested, because this cell or the best one has a single seed.")
        notes += [self._protocol(column) for column in self.comparison.columns]
        return notes

    def _column_cells(self, column: Column) -> dict[Row, CellScores]:
        cells = {}
        for row in self.comparison.rows:
            runs = self.comparison.cells.get((row, column))
            if runs:
                scores = tuple(self.comparison.score(run, column) for run in runs)
                cells[row] = CellScores(scores, tuple(run.config.seed for run in runs))
        return cells

    def _row_cells(self, row: Row) -> list[CellScores | None]:
        return [self.cells.get((row, column)) for column in self.comparison.columns]

    def _unit(self, column: Column) -> str:
        """The metric's name, where columns have different metrics."""
        metrics = self.comparison.metrics
        several = len(set(metrics.values())) > 1
        return f" ({METRIC_NAMES[metrics[column]]})" if several else ""

    def _protocol(self, column: Column) -> str:
        """How a column was trained and evaluated."""
        runs = self.comparison.runs(column)
        values = {
            key: sorted({run.settings[key] for run in runs})
            for key in ("test_nepisode", "test_greedy", "t_max")
        }
        metric = METRIC_NAMES[self.comparison.metrics[column]]
        episodes = "/".join(map(str, values["test_nepisode"]))
        actions = " or ".join(ACTIONS[greedy] for greedy in values["test_greedy"])
        steps = "/".join(map(str, values["t_max"]))
        return (
            f"{column.title}: {metric}, {episodes} test episodes, {actions} actions, "
            f"{steps} gradient steps."
        )

    def _csv_line(self, row: Row, column: Column) -> dict[str, Any]:
        cell = self.cells[row, column]
        first_run = self.comparison.cells[row, column][0]
        return {
            "algorithm": row.algorithm,
            "variant": " ".join(f"{key}={value}" for key, value in row.variant),
            "environment": column.environment,
            "dataset": column.dataset,
            "dataset_fingerprint": first_run.fingerprint,
            "metric": self.comparison.metrics[column],
            "score": self.comparison.selection.score,
            "n": cell.n,
            "mean": cell.mean,
            "std": cell.std,
            "is_best": cell.is_best,
            "p_value": cell.p_value,
            "not_different": cell.not_different,
            "seeds": " ".join(map(str, cell.seeds)),
            "scores": " ".join(map(str, cell.scores)),
        }

    def _document(self, decimals: int, pictures: Sequence[Path], command: str) -> str:
        """The Markdown file: the table, and all that a reader needs to trust it."""
        sections = [
            "# Comparison",
            self.to_markdown(decimals),
            markdown.bullets(self.notes()),
        ]
        for picture in pictures:
            if picture.suffix == ".png":
                title = picture.stem.replace("_", " ").capitalize()
                sections.append(f"![{title}]({picture.name})")
        if self.warnings:
            sections += ["**Warnings**", markdown.bullets(self.warnings)]
        if self.skipped:
            lines = [f"{folder}: {reason}" for folder, reason in self.skipped]
            sections += [f"**Skipped** ({len(lines)})", markdown.bullets(lines)]
        if command:
            sections.append(f"Made by `{command}`.")
        return "\n\n".join(sections) + "\n"
