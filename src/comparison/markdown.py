"""Tables and lists as Markdown."""

from collections.abc import Iterable, Sequence

from inspo.comparison.statistics import CellScores

EMPTY = "\N{EN DASH}"
SPECIAL = "\\|*<`"  # an underscore inside a word needs no backslash


def escape(text: str) -> str:
    """`text` as Markdown shows it."""
    for character in SPECIAL:
        text = text.replace(character, f"\\{character}")
    return text


def cell_text(cell: CellScores | None, decimals: int) -> str:
    """`0.97 ± 0.15* (n=3)`, the best in bold."""
    if cell is None:
        return EMPTY
    text = cell.mean_text(decimals)
    if cell.std is not None:
        text += f" ± {cell.std:.{decimals}f}"
    text = text.replace("-", "\N{MINUS SIGN}")
    if cell.is_best:
        text = f"**{text}**"
    elif cell.not_different:
        text += "*"  # needs no backslash: after a word it cannot open emphasis
    elif cell.untested:
        text += "†"
    return f"{text} (n={cell.n})"


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is the header, padded so that it is readable as plain text."""
    widths = [max(3, *map(len, texts)) for texts in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    header, *body = lines
    return "\n".join(_line(texts, widths) for texts in (header, rule, *body))


def bullets(lines: Iterable[str]) -> str:
    """A list of unescaped lines."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    padded = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
    return f"| {' | '.join(padded)} |"
