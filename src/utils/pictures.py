"""Drawing with matplotlib, which may fail without harm to the job that draws."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo.utils.errors import DrawingError, UserError
from inspo.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Names of datasets and files may hold a $, which is not mathematics, or what LaTeX cannot print.
PLAIN_TEXT = {
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}
SHOWN_LETTERS = 160  # of matplotlib's message
log = logging.getLogger(__name__)


@contextmanager
def drawing(what: Path) -> Iterator[None]:
    """Whatever goes wrong inside is a warning: the picture `what` is missing, nothing else.

    Import matplotlib inside: that alone fails over a broken matplotlibrc or MPLBACKEND.
    """
    try:
        with _plain_text():
            yield
    except UserError as error:
        log.warning("No picture: %s", error)
    except Exception as error:  # noqa: BLE001 - matplotlib, fonts and backends raise any kind
        log.warning("No picture %s: %s", what, _describe(error))


def save_figure(figure: "Figure", path: Path, kind: str = "png", **options: Any) -> None:
    """Writes a figure atomically. The same figure gives the same file.

    Args:
        kind: png, pdf or svg.
        options: of matplotlib's `savefig`.
    """
    import matplotlib

    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    names = {"svg.hashsalt": "inspo"}  # an SVG's names are random without it
    with matplotlib.rc_context(names), write_atomically(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=metadata, **options)


@contextmanager
def must_draw() -> Iterator[None]:
    """Like `drawing`, for a job that is nothing without its picture.

    Raises:
        DrawingError: matplotlib fails.
    """
    try:
        with _plain_text():
            yield
    except (UserError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - as in `drawing`
        raise DrawingError(_describe(error)) from None


def _plain_text() -> AbstractContextManager:
    """Texts inside are drawn as they are, whatever the user's matplotlibrc says."""
    try:
        import matplotlib
    except Exception:  # noqa: BLE001 - the caller's own import fails, too
        return nullcontext()
    return matplotlib.rc_context(PLAIN_TEXT)


def _describe(error: Exception) -> str:
    """One line about an error of matplotlib."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if len(reason) > SHOWN_LETTERS:
        reason = f"{reason[:SHOWN_LETTERS]}..."
    return f"matplotlib cannot draw ({reason}); see your matplotlibrc, MPLBACKEND and fonts"
