"""Finished runs, and what can be done with their policies."""

import json
import re
import shutil

import numpy as np
import pytest
import torch as th
from conftest import metrics

import inspo
from inspo.utils.errors import CheckpointError, ConfigError

SETTINGS = {
    "hidden_dim": 16,
    "batch_size": 16,
    "t_max": 30,
    "test_interval": 15,
    "log_interval": 10,
    "save_model_interval": 15,
    "test_nepisode": 40,
    "use_tensorboard": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> inspo.Run:
    folder = tmp_path_factory.mktemp("runs")
    places = {"local_results_path": folder, "dataset_root": folder / "dataset"}
    return inspo.train("bc", "bridge_offline", **SETTINGS, **places)


@pytest.fixture
def copy(run, tmp_path):
    """The folder of the run, to be damaged."""
    return shutil.copytree(run.folder, tmp_path / "run")


def last_evaluation(run: inspo.Run) -> dict[str, float]:
    return {name: value for name, value in run.metrics[-1].items() if name.startswith("test_")}


def test_what_a_run_tells(run):
    again = inspo.Run(str(run.folder))
    assert again == run
    assert again.summary == json.loads((run.folder / "summary.json").read_text())
    assert again.config["t_max"] == 30
    final = again.scores["test_return_mean"]["final"]
    assert final == again.metrics[-1]["test_return_mean"]
    title, score, folder = str(again).splitlines()
    assert title == "bc on bridge_offline, dataset optimal, seed 0: 30 gradient steps"
    assert score.startswith(f"test_return_mean: {final:.3f} (mean of last five ")
    assert folder == str(run.folder)


def test_the_metrics_are_the_numbers_of_the_file(run):
    written = metrics(run.folder)
    assert [row["step"] for row in run.metrics] == [0, 10, 15, 20, 30]
    assert all(type(row["step"]) is int for row in run.metrics)
    for numbers, texts in zip(run.metrics, written, strict=True):
        assert numbers == {name: float(text) for name, text in texts.items() if text}
    assert "test_return_mean" not in run.metrics[1]


def test_the_labels_of_battles_are_no_metrics(copy):
    for name in ("config.json", "summary.json"):
        content = json.loads((copy / name).read_text())
        content["env_args"] |= {"simulator": "smax", "map_name": "3e5"}
        (copy / name).write_text(json.dumps(content))
    (copy / "metrics.csv").write_text("step,simulator,map_name,q\n7,smax,3e5,0.5\n9,smax,3e5,\n")
    run = inspo.Run(copy)
    assert run.metrics == [{"step": 7, "q": 0.5}, {"step": 9}]
    assert " smax 3e5, dataset optimal," in str(run)


def test_a_notebook_shows_it(run):
    shown = run._repr_html_()
    assert shown.startswith("<b>bc on bridge_offline, dataset optimal, seed 0: 30 gradient steps")
    assert "test_return_mean: " in shown


def test_what_is_no_finished_run(run, copy, tmp_path):
    (copy / "summary.json").unlink()
    cases = {
        copy: r"summary.json is missing, so the run is not finished.*checkpoint_path",
        copy / "nowhere": "there is no such folder",
        run.folder.parent: rf"not a run folder; it holds 1 of them, such as {run.folder.name}",
        tmp_path: "summary.json is missing, so this is not a run folder$",
    }
    for folder, message in cases.items():
        with pytest.raises(inspo.UserError, match=message) as caught:
            inspo.Run(folder)
        assert str(folder) in str(caught.value)


def test_a_lost_file_is_named(copy):
    run = inspo.Run(copy)
    (copy / "metrics.csv").unlink()
    with pytest.raises(inspo.UserError, match=r"metrics\.csv: cannot be read: No such file"):
        run.metrics  # noqa: B018


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", b"{"),
        ("summary.json", b"[1]"),
        ("config.json", b"[" * 99_999),
        ("config.json", b"\xff"),
        ("metrics.csv", b"step,loss\n1,oops\n"),
        ("metrics.csv", b"loss\n1\n"),
    ],
)
def test_a_damaged_file_is_named(copy, name, content):
    run = inspo.Run(copy)
    (copy / name).write_bytes(content)
    with pytest.raises(inspo.UserError, match=rf"{name}: damaged: "):
        getattr(run, name.partition(".")[0])


@pytest.mark.parametrize("what", ["run", "folder", "text", "step", "file"])
def test_evaluation_repeats_the_last_one(run, what):
    file = run.folder / "checkpoints" / "step_0000000030.pt"
    given = {"run": run, "folder": run.folder, "text": str(run.folder), "file": file}
    given["step"] = f"{run.folder}:30"
    before = set(run.folder.parent.rglob("*"))
    assert inspo.evaluate(given[what]) == last_evaluation(run)
    assert set(run.folder.parent.rglob("*")) == before


def test_an_older_checkpoint_has_the_scores_of_its_step(run):
    file = run.folder / "checkpoints" / "step_0000000015.pt"
    scores = {name: value for name, value in run.metrics[2].items() if name.startswith("test_")}
    assert inspo.evaluate(file) == scores != last_evaluation(run)


def test_how_it_is_evaluated_can_be_chosen(run):
    usual = last_evaluation(run)
    few = inspo.evaluate(run, n_episodes=5)
    assert few.keys() == usual.keys()
    assert few != usual
    assert inspo.evaluate(run, seed=1) == inspo.evaluate(run, seed=1) != usual
    # Greedy agents of this game play one and the same episode from each of two starts.
    assert inspo.evaluate(run, greedy=True)["test_return_std"] < usual["test_return_std"]


def test_the_environment_can_be_changed(run):
    short = inspo.evaluate(run, episode_limit=1)
    assert short["test_ep_length_mean"] == 1
    assert last_evaluation(run)["test_ep_length_mean"] > 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_episodes": 0}, ConfigError, "n_episodes of 1 or more"),
        ({"n_episodes": -1}, ConfigError, "test_nepisode: .*greater than or equal to 0"),
        ({"episode_limits": 1}, ConfigError, "episode_limits"),
    ],
)
def test_wrong_evaluations(run, settings, error, message):
    with pytest.raises(error, match=message):
        inspo.evaluate(run, **settings)


def test_evaluation_without_checkpoint(copy):
    shutil.rmtree(copy / "checkpoints")
    for call in (inspo.evaluate, inspo.load_policy, lambda path: inspo.Run(path).policy()):
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(copy))}: no checkpoint found"):
            call(copy)


def test_two_steps_contradict_each_other(run):
    with pytest.raises(CheckpointError, match=":15 and step 30: give one of the two"):
        inspo.load_policy(f"{run.folder}:15", step=30)


def test_results_of_the_project_are_found_from_any_folder(run, tmp_path, monkeypatch):
    monkeypatch.setattr("inspo.utils.files.project_root", lambda: run.folder.parent)
    monkeypatch.chdir(tmp_path)
    name = run.folder.name
    assert inspo.Run(name) == run
    assert inspo.evaluate(name) == inspo.evaluate(f"{name}:30") == last_evaluation(run)
    assert inspo.compare(name).to_csv() == inspo.compare(run).to_csv()


def test_the_policies_act(run):
    """The loop of the documentation, and the same policies whichever way they are loaded."""
    policy = run.policy()
    weights = policy.state_dict()
    for other in (inspo.load_policy(run), inspo.load_policy(run.folder, step=30)):
        assert all(th.equal(weights[name], value) for name, value in other.state_dict().items())
    older = inspo.load_policy(f"{run.folder}:15").state_dict()
    assert all(th.equal(older[name], value) for name, value in run.policy(15).state_dict().items())
    assert not all(th.equal(weights[name], value) for name, value in older.items())

    env = inspo.make_env("bridge_offline", episode_limit=7)
    obs, over, steps = env.reset(seed=0), False, 0
    hidden, last_actions = policy.init_hidden(1), th.full((1, env.n_agents), -1)
    while not over:
        available = th.from_numpy(env.get_avail_actions())[None]
        seen = th.from_numpy(obs)[None]
        last_actions, hidden = policy.act(seen, available, last_actions, hidden)
        obs, _, terminated, truncated, _ = env.step(last_actions[0].numpy())
        over, steps = terminated or truncated, steps + 1
    assert 1 <= steps <= 7


def test_environments_that_cannot_be_made():
    with pytest.raises(ConfigError, match="no such environment; did you mean 'xor_offline'"):
        inspo.make_env("xor_ofline")
    with pytest.raises(ConfigError, match=r"env_args\.payof.*did you mean 'payoff'"):
        inspo.make_env("xor_offline", payof=[[1.0]])


def test_unknown_settings_of_the_environment_are_named(run):
    with pytest.raises(ConfigError, match=r"unknown key 'env_args.episode_limt'.*'episode_limit'"):
        inspo.evaluate(run, episode_limt=3)


def test_numpy_s_numbers_are_numbers(run):
    chosen = {"n_episodes": np.int64(4), "greedy": np.bool_(False), "seed": np.int64(3)}
    assert inspo.evaluate(run, **chosen) == inspo.evaluate(run, 4, False, 3)
    with pytest.raises(TypeError, match="integer"):
        inspo.evaluate(run, 4, seed=3.5)


def test_the_home_folder_is_found(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.folder.parent))
    inspo.load_policy(f"~/{run.folder.name}")


def test_random_numbers_of_the_caller_stay(run, tmp_path):
    th.manual_seed(0)
    expected = th.rand(3)
    for use in (inspo.load_policy, lambda run: inspo.watch(run, out=tmp_path / "film.png")):
        th.manual_seed(0)
        use(run)
        assert th.equal(th.rand(3), expected)
