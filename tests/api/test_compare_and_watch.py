"""Tables and films from Python."""

import csv
import io

import pytest

import inspo

SETTINGS = {
    "hidden_dim": 16,
    "batch_size": 16,
    "t_max": 20,
    "test_interval": 10,
    "test_nepisode": 20,
    "use_tensorboard": False,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[inspo.Run]:
    """Two seeds on two datasets."""
    folder = tmp_path_factory.mktemp("runs")
    places = {"local_results_path": folder, "dataset_root": folder / "dataset"}
    return [
        inspo.train(
            "bc", "xor_offline", env_args={"dataset": name}, seed=seed, **SETTINGS, **places
        )
        for name in ("a", "c")
        for seed in (0, 1)
    ]


def scores(runs: list[inspo.Run], score: str = "final") -> list[float]:
    return [run.scores["test_return_mean"][score] for run in runs]


def cells(table) -> dict[str, str]:
    """The scores of each dataset."""
    return {row["dataset"]: row["scores"] for row in csv.DictReader(io.StringIO(table.to_csv()))}


@pytest.mark.parametrize("what", ["runs", "list", "set", "generator", "folders", "folder"])
def test_runs_or_folders_are_compared(runs, what):
    folders = [str(run.folder) for run in runs]
    results = {
        "runs": runs,
        "list": [runs],
        "set": [set(runs)],
        "generator": [(run for run in runs)],
        "folders": folders,
        "folder": [runs[0].folder.parent],
    }
    table = inspo.compare(*results[what])
    assert cells(table) == {
        "a": " ".join(map(str, scores(runs[:2]))),
        "c": " ".join(map(str, scores(runs[2:]))),
    }
    assert str(table).startswith(table.to_markdown())
    assert "| bc" in str(table)
    assert r"\begin{tabular}" in table.to_latex()
    assert "| bc" in table._repr_markdown_()


def test_what_is_compared_can_be_chosen(runs):
    assert cells(inspo.compare(*runs, score="best")) == {
        "a": " ".join(map(str, scores(runs[:2], "best"))),
        "c": " ".join(map(str, scores(runs[2:], "best"))),
    }
    for datasets in (["a", "b"], {"a", "b"}, (name for name in "ab")):
        one = inspo.compare(*runs, where={"seed": 1, "env_args.dataset": datasets})
        assert cells(one) == {"a": str(scores(runs)[1])}
    assert cells(inspo.compare(*runs, env="xor*")) == cells(inspo.compare(*runs))


def test_the_tables_are_written(runs, tmp_path):
    table = inspo.compare(*runs, out=tmp_path / "out")
    assert table.to_csv() == (tmp_path / "out" / "comparison.csv").read_text()
    assert table.to_markdown() in (tmp_path / "out" / "comparison.md").read_text()
    assert (tmp_path / "out" / "learning_curves.png").exists()


def test_what_cannot_be_compared(runs, tmp_path):
    with pytest.raises(inspo.UserError, match="no run matches"):
        inspo.compare(*runs, env="bridge*")
    with pytest.raises(inspo.UserError, match="nowhere"):
        inspo.compare(tmp_path / "nowhere")
    with pytest.raises(inspo.UserError, match="compare needs runs"):
        inspo.compare()
    with pytest.raises(inspo.UserError, match="compare needs runs"):
        inspo.compare([])


def test_a_run_is_filmed(runs, tmp_path):
    path = inspo.watch(runs[0], out=tmp_path / "film.gif", episodes=2)
    assert path == tmp_path / "film.gif"
    assert path.read_bytes().startswith(b"GIF8")
