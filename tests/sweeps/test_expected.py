"""The bands of the experiments, and the report that reproduce.py makes."""

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT
from fake_pool import FakePool, do

from inspo.sweeps import sweep as sweep_module
from inspo.sweeps.expected import Expected, check_cells, quick_version, read_expected
from inspo.sweeps.plan import make_cells, make_plan
from inspo.sweeps.reproduction import experiments, main, measured
from inspo.sweeps.spec import checked, read_spec, spec_from
from inspo.utils.errors import ConfigError

FOLDER = PROJECT / "experiments"
NAMES = sorted(experiments(FOLDER))
XOR = spec_from(
    {
        "algorithms": ["inspo", "bc"],
        "environments": "xor_offline",
        "datasets": ["a", "b"],
    }
)
CELLS = list(make_cells(XOR))
BAND = {"algorithm": "bc", "mean": [0, 1], "source": "theory"}


def expected(*bands: dict, **values) -> Expected:
    about = {"title": "T", "sources": {"theory": "why"}, "bands": [*bands], **values}
    return checked(Expected, about, "test")


def verdicts(bands: Expected, quick: bool = False, **scores):
    by_label = {f"{k.partition('_')[0]} xor_offline dataset={k[-1]}": v for k, v in scores.items()}
    return {v.cell.label: v for v in check_cells(by_label, CELLS, bands, quick)}


def test_a_mean_inside_its_band_passes():
    found = verdicts(expected(BAND), bc_a=[0.0, 1.0], bc_b=[1.5, 0.7])
    assert found["bc xor_offline dataset=a"].passed is True
    assert found["bc xor_offline dataset=b"].passed is False
    assert found["bc xor_offline dataset=b"].value == pytest.approx(1.1)
    assert found["inspo xor_offline dataset=a"].passed is None


def test_a_cell_without_runs_fails():
    assert verdicts(expected(BAND))["bc xor_offline dataset=a"].passed is False


def test_the_first_fitting_band_counts_and_quick_ones_come_first():
    first, second = {**BAND, "dataset": "b", "mean": [5, 6]}, {**BAND, "mean": [0, 1]}
    quick = {"seeds": 0, "bands": [{**BAND, "mean": [7, 8]}]}
    bands = expected(first, second, quick=quick)
    found = verdicts(bands, bc_a=[5.5], bc_b=[5.5])
    assert found["bc xor_offline dataset=b"].passed is True
    assert found["bc xor_offline dataset=a"].passed is False
    assert verdicts(bands, quick=True, bc_a=[7.5])["bc xor_offline dataset=a"].passed is True


def test_a_band_may_be_of_a_ratio():
    band = {"algorithm": "inspo", "mean": [2, 3], "source": "theory"}
    bands = expected({**band, "ratio_to": {"algorithm": "bc"}})
    found = verdicts(bands, inspo_a=[10, 14], bc_a=[5], inspo_b=[3], bc_b=[3])
    assert found["inspo xor_offline dataset=a"].value == pytest.approx(2.4)
    assert found["inspo xor_offline dataset=a"].passed is True
    assert found["inspo xor_offline dataset=b"].passed is False
    assert "[2, 3] times algorithm=bc" in found["inspo xor_offline dataset=a"].line()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({**BAND, "source": "x"}, "sources lacks x"),
        ({**BAND, "mean": [1, 0]}, "lowest value stands first"),
        ({"algorithm": "bc", "source": "theory"}, r"bands\.0\.mean is missing"),
    ],
)
def test_wrong_bands(wrong, text):
    with pytest.raises(ConfigError, match=text):
        expected(wrong)


def test_a_band_of_no_cell_is_refused():
    with pytest.raises(ConfigError, match=r"describe no cell: .*'dataset': 'z'"):
        expected({**BAND, "dataset": "z"}).check_covers(CELLS)
    with pytest.raises(ConfigError, match="describe no cell"):
        expected(BAND, quick={"bands": [{**BAND, "dataset": "z"}]}).check_covers(CELLS)


def test_all_experiments_are_there():
    assert NAMES == [
        "ablation_entropy",
        "ablation_sequential",
        "bridge",
        "smax",
        "starcraft",
        "table1",
        "table2",
        "training_time",
        "update_order",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_experiments_can_be_planned_and_their_bands_fit(name):
    path = FOLDER / f"{name}.yaml"
    spec, bands = read_spec(path), read_expected(path.with_suffix(".expected.yaml"))
    cells = list(make_cells(spec))
    bands.check_covers(cells)
    versions = [spec]
    if bands.quick:
        versions.append(quick_version(spec, bands))
    for version in versions:
        plan = make_plan(version)
        assert len(plan) == len(cells) * len(version.seeds)


@pytest.mark.parametrize("name", ["table1", "table2", "ablation_entropy"])
def test_every_cell_of_the_matrix_games_has_a_band(name):
    path = FOLDER / f"{name}.yaml"
    bands = read_expected(path.with_suffix(".expected.yaml"))
    for cell in make_cells(read_spec(path)):
        assert bands.band_of(cell, quick=False), cell.label
        assert bands.quick
        assert bands.band_of(cell, quick=True), cell.label


def test_seconds_per_step():
    assert measured({"wall_time_seconds": 30.0, "steps": 60}, "seconds_per_step") == 0.5


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """Two small experiments, carried out in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inspo.run.session.draw_curves", lambda *_: None)
    monkeypatch.setattr("inspo.data.formats.h5_files.check_in_child", lambda path: None)
    monkeypatch.setattr("inspo.sweeps.reproduction._figures", lambda *_: [])
    pool = FakePool(do)
    pool.close = lambda: None
    monkeypatch.setattr(sweep_module, "RayPool", lambda *_: pool)
    (tmp_path / "small.yaml").write_text(
        "algorithms: bc\nenvironments: xor_offline\ndatasets: [a]\nseeds: 0-1\n"
        f"settings: {{t_max: 5, test_nepisode: 10, use_tensorboard: false, "
        f"dataset_root: '{tmp_path}/data', local_results_path: '{tmp_path}/results'}}\n"
    )
    (tmp_path / "small.expected.yaml").write_text(
        "title: Small\nsources: {theory: it is bounded}\n"
        "bands: [{algorithm: bc, mean: [-2, 1], source: theory, why: bounds}]\n"
        "quick: {seeds: 0, settings: {t_max: 3}}\n"
    )
    shutil.copy(tmp_path / "small.yaml", tmp_path / "other.yaml")
    (tmp_path / "other.expected.yaml").write_text(
        "title: Other\nsources: {theory: none}\n"
        "bands: [{algorithm: bc, mean: [7, 8], source: theory}]\n"
    )
    return tmp_path


def test_reproduce_makes_a_report(tiny, capsys):
    assert main(["small", f"--folder={tiny}"]) == 0
    report = (tiny / "results" / "small" / "sweep" / "report.md").read_text()
    assert report in capsys.readouterr().out
    for text in ("# Small", "| BC ", "- pass  bc xor_offline dataset=a", "(theory: bounds), n=2"):
        assert text in report
    assert "1 of 1 cells are in their bands, 0 are not." in report
    assert f"python src/reproduce.py small --folder={tiny}" in report


def test_a_cell_outside_of_its_band_is_the_exit_status(tiny, capsys):
    assert main(["other", f"--folder={tiny}"]) == 1
    assert "FAIL  bc xor_offline dataset=a" in capsys.readouterr().out


def test_quick_and_all(tiny, capsys):
    """Only one of the two has a quick version."""
    assert main(["all", "--quick", f"--folder={tiny}"]) == 0
    shown = capsys.readouterr().out
    assert "# Small" in shown
    assert "# Other" not in shown
    assert "n=1" in shown
    assert main(["other", "--quick", f"--folder={tiny}"]) == 2
    assert "other has no --quick version" in capsys.readouterr().err


def test_all_goes_on_after_an_experiment_that_cannot_run(tiny, capsys):
    (tiny / "a.yaml").write_text("algorithms: nothing\nenvironments: xor_offline\n")
    shutil.copy(tiny / "small.expected.yaml", tiny / "a.expected.yaml")
    assert main(["all", f"--folder={tiny}"]) == 2
    shown = capsys.readouterr().out
    assert "a: ConfigError" in shown
    assert "# Small" in shown
    assert "# Other" in shown


def test_dry_runs_start_nothing(tiny, capsys):
    assert main(["all", "--dry-run", f"--folder={tiny}"]) == 0
    shown = capsys.readouterr().out
    assert "# Small" in shown
    assert shown.count("2 runs, 0 of them finished") == 2
    assert not (tiny / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["smal"], "did you mean 'small'?"),
        (["small", "with", "lr=1"], "settings would change what is expected"),
    ],
)
def test_wrong_arguments(tiny, arguments, text, capsys):
    options = [f"--folder={tiny}", *arguments[1:]]
    assert main([arguments[0], *options]) == 2
    assert text in capsys.readouterr().err
