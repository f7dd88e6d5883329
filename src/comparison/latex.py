"""Tables as LaTeX."""

import itertools
from collections.abc import Sequence

from inspo.comparison.statistics import CellScores

ESCAPES = str.maketrans(
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


def escape(text: str) -> str:
    """`text` as LaTeX prints it."""
    return text.translate(ESCAPES)


def cell_text(cell: CellScores | None, decimals: int) -> str:
    """`$0.97 \\pm 0.15^{*}$ ($n=3$)`, the best mean in bold."""
    if cell is None:
        return "--"
    mean = cell.mean_text(decimals)
    if cell.is_best:
        mean = rf"\mathbf{{{mean}}}"
    std = "" if cell.std is None else rf" \pm {cell.std:.{decimals}f}"
    sign = ""
    if cell.not_different:
        sign = "^{*}"
    elif cell.untested:
        sign = r"^{\dagger}"
    return rf"${mean}{std}{sign}$ {{\scriptsize ($n={cell.n}$)}}"


def tabular(
    header: Sequence[tuple[str, str]], lines: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
    """A booktabs tabular with the notes as comments.

    Args:
        header: environment and dataset of each column, unescaped.
        lines: a row's label, unescaped, and the texts of its cells.
    """
    names, rules = [], []
    first = 2
    for name, group in itertools.groupby(environment for environment, _ in header):
        width = len(list(group))
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    datasets = [escape(dataset) for _, dataset in header]
    body = [_line([escape(label), *cells]) for label, *cells in lines]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            *(f"% {note}" for note in notes),
            rf"\begin{{tabular}}{{l{'c' * len(header)}}}",
            r"\toprule",
            _line(["", *names]),
            "".join(rules),
            _line(["", *datasets]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
