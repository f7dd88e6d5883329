"""`inspo.train` is the command line's run, and leaves the process as it was."""

import json
import random
import signal
import threading

import numpy as np
import pytest
import torch as th
from conftest import metrics

import inspo
from inspo import main
from inspo.utils.config import CONFIG_DIR
from inspo.utils.errors import ConfigError

TINY = {
    "hidden_dim": 16,
    "critic_hidden_dim": 16,
    "behaviour_steps": 20,
    "behaviour_batch_size": 16,
    "batch_size": 16,
    "t_max": 40,
    "test_interval": 20,
    "log_interval": 10,
    "test_nepisode": 20,
    "save_model_interval": 20,
    "use_tensorboard": False,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """Where the runs of this file go, with the dataset that they share."""
    folder = tmp_path_factory.mktemp("runs")
    return {"local_results_path": str(folder), "dataset_root": str(folder / "dataset")}


@pytest.fixture(scope="module")
def run(places) -> inspo.Run:
    return inspo.train("inspo", "xor_offline", **TINY, **places)


def test_the_summary_has_what_normalises_scores(run):
    assert run.summary["reference_return"] == [-2.0, 1.0]  # XOR's lowest and highest payoff


@pytest.fixture
def settings(monkeypatch):
    """Calls `inspo.train`, and returns the checked settings instead of running them."""

    def train(*arguments, **settings):
        asked = []

        def stop(args):
            asked.append(args)
            raise KeyboardInterrupt

        monkeypatch.setattr("inspo.api.run_settings", stop)
        with pytest.raises(KeyboardInterrupt):
            inspo.train(*arguments, **settings)
        return asked[0]

    return train


def test_it_is_the_run_of_the_command_line(run, tmp_path, places):
    words = [f"{key}={value}" for key, value in TINY.items()]
    paths = [f"local_results_path={tmp_path}", f"dataset_root={places['dataset_root']}"]
    command = ["--config=inspo", "--env-config=xor_offline", "with", *words, *paths]
    assert main.main(command) == 0
    (folder,) = tmp_path.iterdir()

    assert (folder / "metrics.csv").read_bytes() == (run.folder / "metrics.csv").read_bytes()
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {
        path.relative_to(run.folder) for path in run.folder.rglob("*")
    }
    config = json.loads((folder / "config.json").read_text())
    assert config | places == run.config
    assert folder.name[: len("inspo_xor_offline_c_seed0_")] == "inspo_xor_offline_c_seed0_"
    assert run.folder.name.startswith("inspo_xor_offline_c_seed0_")


def test_env_args_are_merged_over_those_of_the_yaml(settings):
    shipped = settings("bc", "xor_offline").env_args
    assert shipped["dataset"] == "c"
    for changes in (
        {"env_args": {"dataset": "b"}},
        {"env_args.dataset": "b"},
        {"env_args": {"dataset": "a"}, "env_args.dataset": "b"},
    ):
        assert settings("bc", "xor_offline", **changes).env_args == {**shipped, "dataset": "b"}


def test_paths_arrays_and_numpy_numbers_are_settings(settings, tmp_path):
    args = settings(
        CONFIG_DIR / "algs" / "bc.yaml",
        CONFIG_DIR / "envs" / "xor_offline.yaml",
        seed=np.int64(3),
        lr=np.float64(0.5),
        dataset_root=tmp_path,
        env_args={"payoff": np.array([[1.0, 2.0], [3.0, 4.0]]), "dataset": tmp_path / "mine.h5"},
    )
    assert (args.seed, args.lr, args.dataset_root) == (3, 0.5, str(tmp_path))
    assert args.env_args["payoff"] == [[1.0, 2.0], [3.0, 4.0]]
    assert args.env_args["dataset"] == str(tmp_path / "mine.h5")
    assert type(args.seed) is int


@pytest.mark.parametrize(
    ("name", "setting", "word"),
    [
        ("xor_offline", {"t_maks": 5}, "t_maks=5"),
        ("xor_offline", {"env_args": {"datset": "b"}}, "env_args.datset=b"),
        ("xor_offline", {"env_args.datset": "b"}, "env_args.datset=b"),
        ("xor_offline", {"batch_size": 0}, "batch_size=0"),
        ("xor_offline", {"env_args": 3}, "env_args=3"),
        ("xor_ofline", {}, "t_max=5"),
    ],
)
def test_wrong_settings_give_the_error_of_the_command_line(capsys, name, setting, word):
    with pytest.raises(ConfigError) as caught:
        inspo.train("bc", name, **setting)
    assert main.main(["--config=bc", f"--env-config={name}", "with", word]) == 2
    assert capsys.readouterr().err.endswith(f"ConfigError: {caught.value}\n")
    assert isinstance(caught.value, inspo.UserError)


def test_a_run_resumes_to_the_same_numbers(run, places):
    settings = {**TINY, **places}
    half = inspo.train("inspo", "xor_offline", **settings | {"t_max": 20})
    resumed = inspo.train("inspo", "xor_offline", **settings, checkpoint_path=half)
    assert resumed.folder != half.folder
    assert metrics(resumed.folder) == metrics(run.folder)


def test_the_process_is_as_before(run, places):
    random.seed(5), np.random.seed(6), th.manual_seed(7)
    expected = random.random(), np.random.rand(), th.rand(1)
    random.seed(5), np.random.seed(6), th.manual_seed(7)
    threads = th.get_num_threads()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        th.set_num_threads(2)  # a run sets 1
        again = inspo.train("inspo", "xor_offline", **TINY, **places)
        inspo.evaluate(run)
        assert th.get_num_threads() == 2
    finally:
        th.set_num_threads(threads)
    assert (random.random(), np.random.rand(), th.rand(1)) == expected
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert metrics(again.folder) == metrics(run.folder)


def test_runs_of_two_threads_do_not_disturb_each_other(run, places):
    runs = []

    def train():
        runs.append(inspo.train("inspo", "xor_offline", **TINY, **places))

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.folder for run in runs}) == 2
    for other in runs:
        assert metrics(other.folder) == metrics(run.folder)
