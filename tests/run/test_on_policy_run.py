"""Online runs without a replay buffer: MAPPO on a small game."""

import json

import pytest
import torch as th
from conftest import make_args, metrics
from online_game import FAST_MAPPO, train_mappo, write_game

from inspo import collect
from inspo.data.catalogue import dataset_path
from inspo.data.formats import load_dataset
from inspo.run.collection import fastest_algorithm, trained_algorithm

MILESTONES = ["medium_score=5", "expert_score=15"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from start to end."""
    return train_mappo(tmp_path_factory.mktemp("online"), *MILESTONES)


def content_of(run, name: str) -> dict:
    path = sorted((run / "checkpoints").glob(name))[-1]
    return th.load(path, weights_only=True)


def test_mappo_learns_the_game(whole):
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["scores"]["test_return_mean"]["final"] == 18
    assert summary["step_unit"] == "environment steps"
    # Rounds of 16 episodes of 2 steps, 4 epochs of 2 minibatches.
    assert summary["gradient_steps"] == summary["steps"] / 32 * 8
    assert not list((whole / "checkpoints").glob("*.replay"))


def test_a_resumed_run_reproduces_the_numbers(whole, tmp_path):
    half = train_mappo(tmp_path, "t_max=500", *MILESTONES, results="half")
    resumed = train_mappo(tmp_path, f"checkpoint_path={half}", *MILESTONES)
    assert metrics(resumed) == metrics(whole)
    expected, found = content_of(whole, "step_*.pt"), content_of(resumed, "step_*.pt")
    assert found["milestones"] == expected["milestones"]
    assert [entry["step"] for entry in found["snapshots"]] == [
        entry["step"] for entry in expected["snapshots"]
    ]
    for name, module in expected["learner"]["modules"].items():
        for key, value in module.items():
            assert th.equal(value, found["learner"]["modules"][name][key]), (name, key)


def test_policies_until_medium_are_kept(whole):
    medium = content_of(whole, "medium.pt")
    steps = [entry["step"] for entry in medium["snapshots"]]
    assert steps[0] == 0
    assert steps[-1] == medium["step"]
    untrained, newest = medium["snapshots"][0]["mac"], medium["snapshots"][-1]["mac"]
    for key, weights in medium["learner"]["modules"]["mac"].items():
        assert th.equal(newest[key], weights)
    assert any(not th.equal(untrained[key], newest[key]) for key in newest)
    final = content_of(whole, "step_*.pt")
    assert len(final["snapshots"]) == len(steps)  # none after medium


def test_all_datasets_of_the_game_by_sampled_policies(whole, tmp_path):
    options = [write_game(tmp_path), "--config=mappo", "--episodes=100", "with", *FAST_MAPPO]
    assert collect.main([*options, *MILESTONES, f"dataset_root={tmp_path}"]) == 0
    names = ("random", "medium", "medium-replay", "expert", "mixed")
    sets = {name: load_dataset(tmp_path / "game" / f"{name}.h5") for name in names}
    means = {name: data.returns.mean() for name, data in sets.items()}
    assert means["random"] < means["medium-replay"] < means["medium"] <= means["expert"] < 18
    replay = sets["medium-replay"].metadata["policies"]
    assert [policy["step"] for policy in replay] == sorted({policy["step"] for policy in replay})
    assert not any(policy["greedy"] for data in sets.values() for policy in _trained(data))


def _trained(data) -> list[dict]:
    return [policy for policy in data.metadata["policies"] if policy["policy"] != "random"]


def test_a_checkpoint_plays_sampled_actions_unless_told_otherwise(whole, tmp_path):
    for name, settings, greedy in (("a", [], False), ("b", ["test_greedy=True"], True)):
        command = [f"--checkpoint={whole}", f"--name={name}", "--episodes=4", "with"]
        assert collect.main([*command, f"dataset_root={tmp_path}", *settings]) == 0
        data = load_dataset(tmp_path / "game" / f"{name}.h5")
        assert data.metadata["policies"][0]["greedy"] == greedy


def test_the_algorithm_that_trains_first_fits_the_game_or_the_training_there(whole, tmp_path):
    battles = make_args("qmix", "sc2", env_args={"simulator": "smax"})
    assert fastest_algorithm(battles) == "mappo"
    assert fastest_algorithm(make_args("qmix", "xor_offline")) == "qmix"
    assert trained_algorithm(battles, tmp_path) is None
    training = dataset_path(battles, tmp_path, "random").parent / "training"
    training.mkdir(parents=True)
    (training / whole.name).symlink_to(whole)
    assert trained_algorithm(battles, tmp_path) == "mappo"
