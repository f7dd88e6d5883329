"""A comparison as Markdown, LaTeX and CSV."""

import csv
import io
import itertools
from collections.abc import Iterable
from typing import Any

from inspo.comparison.grouping import RETURN, WIN_RATE, Column, Comparison, Row, title
from inspo.comparison.statistics import Cell, mark

METRIC_NAMES = {RETURN: "return", WIN_RATE: "win rate"}
SCORE_NAMES = {
    "final": "at the last evaluation",
    "last5": "mean of the last five evaluations",
    "best": "best evaluation, which was picked afterwards and flatters, the more the more evaluations there were",
}
LATEX_ESCAPES = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)
EMPTY = "\N{EN DASH}"
Table = dict[tuple[Row, Column], Cell]


def make_table(comparison: Comparison) -> Table:
    """Scores by row and column, the best of each column marked and the others tested against it."""
    table: Table = {}
    for column in comparison.columns:
        cells = {}
        for row in comparison.rows:
            if runs := comparison.cells.get((row, column)):
                scores = tuple(comparison.score(run, column) for run in runs)
                cells[row] = Cell(scores, tuple(run.config.seed for run in runs))
        table |= {(row, column): cell for row, cell in mark(cells).items()}
    return table


def to_markdown(comparison: Comparison, table: Table, decimals: int) -> str:
    """The table, padded so that it also reads well as it is."""
    lines = [
        [
            "",
            *(
                _markdown_text(f"{title(column)}{_unit(comparison, column)}")
                for column in comparison.columns
            ),
        ]
    ]
    for row in comparison.rows:
        cells = (table.get((row, column)) for column in comparison.columns)
        texts = (EMPTY if cell is None else _markdown(cell, decimals) for cell in cells)
        lines.append([_markdown_text(row.label), *texts])
    widths = [max(3, *(len(line[k]) for line in lines)) for k in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def to_latex(comparison: Comparison, table: Table, decimals: int) -> str:
    """A booktabs tabular: environments over their datasets, the legend as comments."""
    columns = comparison.columns
    groups = [
        (name, len(list(group)))
        for name, group in itertools.groupby(column.environment for column in columns)
    ]
    spans = list(itertools.accumulate((width for _, width in groups), initial=2))
    header = " & ".join(
        ["", *(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(name)}}}" for name, width in groups)]
    )
    rules = "".join(
        rf"\cmidrule(lr){{{first}-{after - 1}}}" for first, after in itertools.pairwise(spans)
    )
    datasets = (escape_latex(f"{column.dataset}{_unit(comparison, column)}") for column in columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        *(f"% {line}" for line in legend(comparison, table)),
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        rf"{header} \\",
        rules,
        rf"{' & '.join(['', *datasets])} \\",
        r"\midrule",
    ]
    for row in comparison.rows:
        cells = (table.get((row, column)) for column in columns)
        texts = ("--" if cell is None else _latex(cell, decimals) for cell in cells)
        lines.append(rf"{' & '.join([escape_latex(row.label), *texts])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def to_csv(comparison: Comparison, table: Table) -> str:
    """One line for each cell, numbers in full; `scores` are in the order of `seeds`."""
    lines = [_csv(comparison, row, column, cell) for (row, column), cell in table.items()]
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=lines[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def legend(comparison: Comparison, table: Table) -> list[str]:
    """What the numbers and marks are, how each column was evaluated, and in what else the runs differ; a line each."""
    lines = [
        f"Mean ± standard deviation (with n - 1) over n seeds; score: {SCORE_NAMES[comparison.selection.score]}.",
        "Bold: the best of its column. *: not significantly different from it (Welch's t-test, two-sided, 5 %, not "
        "corrected for several comparisons).",
    ]
    if any(cell.untested for cell in table.values()):
        lines.append("†: not tested, for want of a second seed here or in the best.")
    for column in comparison.columns:
        runs = comparison.runs(column)
        episodes, steps, greedy = (
            "/".join(str(value) for value in sorted({run.settings[key] for run in runs}))
            for key in ("test_nepisode", "t_max", "test_greedy")
        )
        actions = {"False": "sampled actions", "True": "likeliest actions"}.get(
            greedy, "sampled or likeliest actions"
        )
        metric = METRIC_NAMES[comparison.metrics[column]]
        lines.append(
            f"{title(column)}: {metric}, {episodes} test episodes, {actions}, {steps} gradient steps."
        )
    software: dict[str, set[str]] = {}
    for column in comparison.columns:
        for run in comparison.runs(column):
            for package, version in run.summary.software.items():
                software.setdefault(package.replace("_", " "), set()).add(_short_version(version))
    differing = {package: versions for package, versions in software.items() if len(versions) > 1}
    lines += [
        f"Not all runs had the same {package}: {', '.join(sorted(versions))}."
        for package, versions in sorted(differing.items())
    ]
    return lines


def _short_version(version: str) -> str:
    """A commit as eight digits, and a mark where files differed from it; anything else as it is."""
    commit, plus, changes = version.partition("+")
    return f"{commit[:8]}{plus}{changes}" if len(commit) == 40 else version


def escape_latex(text: str) -> str:
    """`text` as LaTeX prints it."""
    return text.translate(LATEX_ESCAPES)


def to_document(
    comparison: Comparison, markdown: str, notes: list[str], picture: str | None, command: str
) -> str:
    """The Markdown file: the table, and all that one must know to trust it."""
    sections = ["# Comparison", markdown, _bullets(notes)]
    if picture is not None:
        sections.append(f"![Learning curves]({picture})")
    if comparison.warnings:
        sections += ["**Mind**", _bullets(comparison.warnings)]
    if comparison.skipped:
        sections += [f"**Left out** ({len(comparison.skipped)})"]
        sections += [_bullets(f"{folder}: {reason}" for folder, reason in comparison.skipped)]
    sections.append(f"Made by `{command}`.")
    return "\n\n".join(sections) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_markdown_text(line)}" for line in lines)


def _unit(comparison: Comparison, column: Column) -> str:
    """Named in the header only where columns have different metrics."""
    several = len(set(comparison.metrics.values())) > 1
    return f" ({METRIC_NAMES[comparison.metrics[column]]})" if several else ""


def _numbers(cell: Cell, decimals: int) -> tuple[str, str | None]:
    """Mean and standard deviation; a mean that rounds to 0 has no sign."""
    mean = f"{round(cell.mean, decimals) + 0.0:.{decimals}f}"
    return mean, None if cell.std is None else f"{cell.std:.{decimals}f}"


def _markdown(cell: Cell, decimals: int) -> str:
    mean, std = _numbers(cell, decimals)
    text = (mean if std is None else f"{mean} ± {std}").replace("-", "\N{MINUS SIGN}")
    # A star right behind a word cannot open emphasis: it needs no backslash.
    text = f"**{text}**" if cell.is_best else text + _sign(cell, "*", "†")
    return f"{text} (n={cell.n})"


def _sign(cell: Cell, not_different: str, untested: str) -> str:
    return not_different if cell.not_different else untested if cell.untested else ""


def _latex(cell: Cell, decimals: int) -> str:
    mean, std = _numbers(cell, decimals)
    mean = rf"\mathbf{{{mean}}}" if cell.is_best else mean
    spread = "" if std is None else rf" \pm {std}"
    sign = _sign(cell, "^{*}", r"^{\dagger}")
    return rf"${mean}{spread}{sign}$ {{\scriptsize ($n={cell.n}$)}}"


def _csv(comparison: Comparison, row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    return {
        "algorithm": row.algorithm,
        "variant": " ".join(f"{key}={value}" for key, value in row.variant),
        "environment": column.environment,
        "dataset": column.dataset,
        "dataset_fingerprint": comparison.cells[row, column][0].summary.dataset_fingerprint,
        "metric": comparison.metrics[column],
        "score": comparison.selection.score,
        "n": cell.n,
        "mean": cell.mean,
        "std": cell.std,
        "is_best": cell.is_best,
        "p_value": cell.p_value,
        "not_different": cell.not_different,
        "seeds": " ".join(map(str, cell.seeds)),
        "scores": " ".join(map(str, cell.scores)),
    }


def _markdown_text(text: str) -> str:
    for character in "\\|*<`":  # an underscore within a word is one
        text = text.replace(character, f"\\{character}")
    return text
