"""The benchmarks run from any folder, time every algorithm, and name the parts of its step."""

import sys
from runpy import run_path
from types import SimpleNamespace

import pytest
import torch as th
from conftest import PROJECT, make_args, make_data
from small_learners import ALGORITHMS

from inspo.controllers import BasicMAC

# As the learners' `modules` call their value networks.
VALUES = {"critics", "nu", "advantages", "twins", "q", "v", "mixer"}
TINY = ["--batch", "2", "--length", "3", "--repeats", "1"]


@pytest.fixture
def train_step(monkeypatch, capsys):
    """Runs that script in this process, and returns what it prints."""
    script = PROJECT / "benchmarks" / "train_step.py"

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(script), *arguments, *TINY, "--threads", "1"])
        run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    n_threads = th.get_num_threads()
    yield run
    th.set_num_threads(n_threads)


def rows_of(output):
    """The cells of a Markdown table, without its heading."""
    lines = [line for line in output.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_a_row_for_every_algorithm(train_step):
    rows = rows_of(train_step("--algorithms", *ALGORITHMS, "--agents", "3"))
    assert [row[0] for row in rows] == ["yardstick", *ALGORITHMS]
    for name, median, *_, parts in rows[1:]:
        assert float(median) > 0, name
        named = {part.strip().rsplit(" ", 2)[0] for part in parts.split(",")}
        assert {"sampling", "policy"} <= named, name
        assert VALUES & named or name == "bc", name


def test_counterfactuals_in_one_pass_and_in_a_loop(train_step):
    rows = rows_of(train_step("--counterfactuals", "--agents", "3"))
    assert [row[0] for row in rows] == ["cfcql, one pass", "cfcql, looped"]


def test_loading_and_sampling_from_any_folder(tmp_path, monkeypatch, capsys):
    script = PROJECT / "benchmarks" / "load_and_sample.py"
    monkeypatch.syspath_prepend(script.parent)  # as Python does for a script
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--episodes", "10", *TINY])
    run_path(str(script), run_name="__main__")
    loading, sampling = capsys.readouterr().out.splitlines()
    assert loading.startswith("loading ")
    assert sampling.startswith("a sample of 2 episodes: ")


def test_a_temperature_sharpens_a_policy():
    sharpened = run_path(str(PROJECT / "benchmarks" / "ship_policies.py"))["sharpened"]
    args, info = make_args("mappo", hidden_dim=8), make_data().env_info(episode_limit=5)
    mac = BasicMAC(args, info)
    batch = {
        "obs": th.randn(2, 3, info.n_agents, info.obs_shape),
        "last_actions": th.full((2, 3, info.n_agents), -1),
        "avail_actions": th.ones(2, 3, info.n_agents, info.n_actions, dtype=th.bool),
    }
    before = mac.log_probs(batch)
    mac.load_state_dict(sharpened(mac.state_dict(), 0.5))
    th.testing.assert_close(mac.log_probs(batch), (before / 0.5).log_softmax(-1))


def test_policies_of_two_trainings_with_one_seed_are_not_mixed_up():
    """Names are of seed and step: the second would be taken for the first."""
    add = run_path(str(PROJECT / "benchmarks" / "ship_policies.py"))["add"]
    first, second = (make_args("mappo", "sc2", lr=lr).model_dump() for lr in (0.001, 0.002))
    card = {"policies": {"seed0_7": {}}, "trainings": {}}
    game = SimpleNamespace(map_name="3m")

    def name_of(config):
        return add({"config": config, "step": 7}, card, {}, game, battles=1)

    assert [name_of(first), name_of(first)] == ["seed0_7", "seed0_7"]
    assert "map_name=3m lr=0.001 critic_lr=0.002 " in card["trainings"]["seed0"]
    with pytest.raises(SystemExit, match="two trainings have seed=0"):
        name_of(second)
