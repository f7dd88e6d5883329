"""Public datasets of StarCraft II as people have them: `dataset_root` is all that must be set."""

from importlib.util import find_spec

import pytest
from conftest import make_args, metrics
from public_smac import MAPS, QUALITIES, random_battles, write_public

from inspo import main
from inspo.data.catalogue import find_dataset, resolve_dataset
from inspo.data.formats import public_datasets
from inspo.envs import sc2
from inspo.envs.sc2.starcraft_install import starcraft_problem
from inspo.utils.errors import DatasetError

SMALL = [
    *("t_max=2", "batch_size=2", "hidden_dim=4", "test_nepisode=1", "use_tensorboard=False"),
    *("log_interval=2", "test_interval=2", "save_model_interval=2", "num_threads=1"),
]
needs_tensorstore = pytest.mark.skipif(find_spec("tensorstore") is None, reason="needs tensorstore")
SOURCES = [
    pytest.param(source, marks=needs_tensorstore if source == "OG-MARL" else ())
    for source in QUALITIES
]


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(sc2, "starcraft_problem", lambda package="smac": "")


def args(map_name, **env_args):
    return make_args("bc", "sc2_offline", env_args={"map_name": map_name, **env_args})


@pytest.mark.usefixtures("installed", "_no_child")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("map_name", MAPS)
def test_auto_finds_the_folder_of_every_source(tmp_path, source, map_name):
    write_public(source, map_name, tmp_path)
    settings = resolve_dataset(args(map_name), tmp_path)
    assert settings.env_args["dataset"] == "medium"
    found = find_dataset(settings, None, tmp_path)
    found.check_env(MAPS[map_name])
    lengths = random_battles(map_name).lengths.tolist()
    assert found.lengths.tolist() == lengths * (2 if source == "OffPyMARL" else 1)
    names = [name for name, _ in public_datasets(tmp_path, map_name)]
    assert sorted(names) == sorted(QUALITIES[source])


@pytest.mark.usefixtures("installed", "_no_child")
def test_the_maps_own_folder_may_be_the_root(tmp_path):
    write_public("OffPyMARL", "5m_vs_6m", tmp_path)
    root = tmp_path / "dataset" / "sc2" / "5m_vs_6m"
    assert find_dataset(args("5m_vs_6m", dataset="expert"), None, root).n_episodes == 6


@pytest.mark.usefixtures("installed")
def test_other_qualities_are_named(tmp_path):
    for name in ("Good", "Poor"):
        folder = tmp_path / "vaults" / "og_marl" / "smac_v1" / "2s3z.vlt" / name
        folder.mkdir(parents=True)
        (folder / "manifest.ocdbt").touch()
    (tmp_path / "2s3z_vs_3s_medium.h5").touch()  # of a map whose name goes on
    with pytest.raises(DatasetError, match=r"dataset=auto: there is no such .*; known: Good, Poor"):
        resolve_dataset(args("2s3z"), tmp_path)
    with pytest.raises(DatasetError, match="did you mean 'Good'"):
        find_dataset(args("2s3z", dataset="godo"), None, tmp_path)


@pytest.mark.parametrize(
    ("map_name", "source"),
    [
        ("2s3z", "CFCQL"),
        ("3s_vs_5z", "OffPyMARL"),
        ("5m_vs_6m", "OffPyMARL from Vaults"),
        pytest.param("6h_vs_8z", "OG-MARL", marks=needs_tensorstore),
    ],
)
def test_it_is_trained_on_and_evaluated(fake_game, tmp_path, map_name, source):
    """On the real SMAC, whose sizes are those of the datasets, and a fake game."""
    if problem := starcraft_problem():
        pytest.skip(problem)
    write_public(source, map_name, tmp_path)
    settings = [f"dataset_root={tmp_path}", f"local_results_path={tmp_path / 'results'}"]
    if map_name != "2s3z":
        settings.append(f"env_args.map_name={map_name}")
    words = ["--config=bc", "--env-config=sc2_offline", "with", *settings, *SMALL]
    assert main.main(words) == 0
    (run,) = (tmp_path / "results").iterdir()
    assert run.name.startswith(f"bc_sc2_offline_starcraft2-{map_name}_medium_seed0_")
    assert [row["test_battle_won_mean"] for row in metrics(run)] == ["0.0", "0.0"]
