"""The quickstart notebook runs as it is, and its stored outputs are of these cells."""

import re

import pytest
from conftest import PROJECT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = PROJECT / "docs" / "quickstart.ipynb"
NO_CURVES = "import inspo.run.session as session\nsession.draw_curves = lambda *_: None"
LARGEST = 100_000  # bytes
BEST_TYPE = ("image/png", "text/markdown", "text/plain")  # what a notebook shows of several


def outputs(notebook) -> list[list[tuple[str, str]]]:
    """Type and content of what each code cell shows, without the log."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[shown(output) for output in cell.outputs if not is_log(output)] for cell in cells]


def is_log(output) -> bool:
    return output.get("name") == "stderr"


def shown(output) -> tuple[str, str]:
    if output.output_type == "stream":
        return output.name, output.text
    kind = next(kind for kind in BEST_TYPE if kind in output.data)
    return kind, output.data[kind]


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A fresh copy, run in a folder of its own by this Python. Runs draw no curves.png."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(NO_CURVES))
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        patch.setenv("TMPDIR", str(folder))
        client.execute()
    del notebook.cells[0]
    return notebook


def test_it_shows_what_is_stored(stored, executed):
    kinds = [[kind for kind, _ in cell] for cell in outputs(executed)]
    assert kinds == [[kind for kind, _ in cell] for cell in outputs(stored)]
    assert "text/markdown" in [kind for cell in kinds for kind in cell]


def test_inspo_is_the_best_of_its_table(executed):
    shown = dict(output for cell in outputs(executed) for output in cell)
    rows = [line.split("|")[1:3] for line in shown["text/markdown"].splitlines()]
    scores = {name.strip(): score.strip() for name, score in rows}
    assert scores["inspo"].startswith("**")
    assert float(scores["inspo"].strip("*").split()[0]) > 0.9
    assert float(scores["bc"].split()[0]) < 0.4
    assert "reward: 1.0" in shown["stdout"]


def test_the_stored_notebook_is_small_and_tells_nothing_of_a_machine(stored):
    nbformat.validate(stored)
    assert NOTEBOOK.stat().st_size < LARGEST
    texts = [cell.source for cell in stored.cells]
    texts += [text for cell in outputs(stored) for kind, text in cell if kind != "image/png"]
    for text in texts:
        assert not re.search(r"(^|[\s'\"(])(/|[A-Z]:\\)\w", text), text  # an absolute path
        assert " at 0x" not in text
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    logs = [output for cell in stored.cells for output in cell.get("outputs", ()) if is_log(output)]
    assert not logs
