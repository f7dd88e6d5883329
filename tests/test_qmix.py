"""QMIX's values, the replay buffer, online runs, and the datasets that come of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch as th
from conftest import main_command, make_args, make_buffer, make_data, metrics

from inspo import collect, main
from inspo.components.replay_buffer import ReplayBuffer
from inspo.components.value_decomposition import double_q_targets, td_loss
from inspo.controllers import BasicMAC
from inspo.data.formats import load_dataset
from inspo.envs import REGISTRY as ENVS
from inspo.envs import sc2
from inspo.envs.matrix_game import MatrixGame
from inspo.learners import REGISTRY
from inspo.run import collection
from inspo.run.collection import RANDOM, record
from inspo.run.settings import settings_from
from inspo.utils.errors import ConfigError

CPU = th.device("cpu")
# Played twice. Each agent does better with a higher action whatever the other does: a monotonic game, worth 18.
GAME = """
env: matrix_game
env_args:
  n_agents: 2
  n_actions: 3
  episode_limit: 2
  payoff: [[0, 1, 2], [1, 3, 5], [2, 5, 9]]
"""
FAST = [
    "t_max=1000",
    "updates_per_round=3",
    "test_interval=250",
    "log_interval=250",
    "save_model_interval=250",
    "learning_starts=100",
]
FAST += [
    "epsilon_anneal_time=800",
    "batch_size=16",
    "buffer_size=500",
    "hidden_dim=16",
    "lr=0.01",
    "n_parallel=16",
]
FAST += ["test_nepisode=16", "use_tensorboard=False", "target_update_interval=20"]


def episodes_of(data):
    for start, length in zip(data.starts, data.lengths, strict=True):
        fields = ("state", "obs", "actions", "avail_actions", "reward", "terminated", "truncated")
        yield {name: getattr(data, name)[start : start + length + 1] for name in fields}


def replay_of(data, capacity=10, seed=0):
    buffer = ReplayBuffer(data.env_info(episode_limit=5), capacity, CPU, seed)
    for episode in episodes_of(data):
        buffer.add(episode)
    return buffer


def make_learner(data=None, **overrides):
    data = data or make_data()
    args = make_args("qmix", **{"hidden_dim": 16, "batch_size": 8, **overrides})
    info = data.env_info(episode_limit=5)
    th.manual_seed(0)
    return REGISTRY[args.learner](args, info, BasicMAC(args, info))


# --- the learner


def test_targets_against_hand_computed_numbers():
    """One agent, a mixer that adds 10, gamma 0.5, lambda 0.5; episode 0 terminates after 2 steps, 1 is cut after 1."""
    q = th.tensor([[[1.0, 2.0], [5.0, 3.0], [0.0, 9.0]], [[0.0, 1.0], [4.0, 7.0], [8.0, 8.0]]])[
        :, :, None
    ]
    target_q = th.tensor(
        [[[0.0, 0.0], [20.0, 30.0], [9.0, 9.0]], [[0.0, 0.0], [40.0, 50.0], [6.0, 6.0]]]
    )[:, :, None]
    available = th.ones(2, 3, 1, 2, dtype=th.bool)
    available[1, 1, 0, 1] = False  # the better action of what followed episode 1
    batch = {
        "avail_actions": available,
        "state": th.zeros(2, 3, 7),
        "reward": th.tensor([[1.0, 2.0], [3.0, 100.0]]),
        "terminated": th.tensor([[False, True], [False, False]]),
        "filled": th.tensor([[True, True], [True, False]]),
    }
    # Episode 0: y_1 = 2; V_1 = 20 + 10, valued at the action the network picks; y_0 = 1 + 0.5 (0.5 * 30 + 0.5 * 2).
    # Episode 1: y_0 = 3 + 0.5 * (40 + 10): the whole of what followed, at the only action there is.
    targets = double_q_targets(
        q, target_q, lambda values, state: values.sum(-1) + 10, batch, gamma=0.5, td_lambda=0.5
    )
    assert th.allclose(targets, th.tensor([[9.0, 2.0], [28.0, 0.0]]))
    q_tot = th.tensor([[7.0, 3.0], [28.0, -50.0]])
    assert td_loss(q_tot, targets, batch["filled"]).item() == pytest.approx(
        (2**2 + 1**2 + 0) / 2 / 3
    )


def test_the_mixer_grows_with_every_agents_value():
    mixer = make_learner().mixer
    values = th.randn(50, 4, 3, requires_grad=True)
    mixer(values, 10 * th.randn(50, 4, 7)).sum().backward()
    assert (values.grad >= 0).all()
    assert (values.grad > 0).float().mean() > 0.9


def test_agents_that_share_a_network_can_be_permuted():
    """Without ids: permuting what agents see and did permutes their values, and nothing else."""
    data = make_data()
    learner, order = make_learner(data, obs_agent_id=False), [2, 0, 1]
    batch = replay_of(data).sample(8)
    permuted = batch | {name: batch[name][:, :, order] for name in ("obs", "last_actions")}
    assert th.allclose(
        learner.mac.outputs(batch)[:, :, order], learner.mac.outputs(permuted), atol=1e-6
    )


def test_the_target_is_a_copy_of_the_network_some_updates_ago():
    learner, buffer = make_learner(target_update_interval=3), replay_of(make_data())
    start = learner.parameters[0].clone()
    for update in range(1, 7):
        learner.train(buffer, with_stats=False)
        if update == 3:
            copied = learner.parameters[0].clone()
        expected = start if update < 3 else copied if update < 6 else learner.parameters[0]
        assert th.equal(learner.target_parameters[0], expected)


# --- the replay buffer


def test_the_buffer_is_a_ring():
    data = make_data()
    buffer = replay_of(data, capacity=4)
    assert (buffer.n_episodes, buffer.added) == (4, 6)
    kept = [episode for episode, _ in buffer.episodes()]
    for episode, expected in zip(kept, list(episodes_of(data))[2:], strict=True):
        for name, rows in expected.items():
            np.testing.assert_array_equal(episode[name], rows)


def test_batches_are_those_of_the_offline_buffer():
    data = make_data()
    online, offline = replay_of(data, seed=3).sample(32), make_buffer(data, seed=3).sample(32)
    assert online.keys() == offline.keys()
    for name, rows in offline.items():
        assert th.equal(online[name], rows), name
        assert online[name].dtype == rows.dtype


def test_a_buffer_comes_back_from_its_file(tmp_path):
    data = make_data()
    buffer = replay_of(data, capacity=4)
    buffer.sample(3)
    buffer.save(tmp_path / "buffer.replay")
    again = ReplayBuffer(data.env_info(episode_limit=5), 4, CPU, seed=7)
    again.load(tmp_path / "buffer.replay")
    again.load_state_dict(buffer.state_dict())
    for episode in list(episodes_of(data))[:2]:
        buffer.add(episode, battle_won=True)
        again.add(episode, battle_won=True)
    first, second = buffer.sample(16), again.sample(16)
    assert all(th.equal(first[name], second[name]) for name in first)
    assert th.equal(buffer.battle_won, again.battle_won)


def test_a_buffer_too_large_for_the_memory_is_refused():
    with pytest.raises(ConfigError, match=r"buffer_size=1000000000.*at most buffer_size=\d+ fits"):
        ReplayBuffer(make_data().env_info(episode_limit=1000), 10**9, CPU, seed=0)


# --- whole runs


def train(folder: Path, *settings: str, results: str = "results") -> Path:
    """A run in this process; returns its folder."""
    (folder / "game.yaml").write_text(GAME)
    where = [f"local_results_path={folder / results}"]
    arguments = [
        "--config=qmix",
        f"--env-config={folder / 'game.yaml'}",
        "with",
        *FAST,
        *where,
        *settings,
    ]
    assert main.main(arguments) == 0
    return max((folder / results).glob("qmix_*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone, from the command line."""
    folder = tmp_path_factory.mktemp("online")
    (folder / "game.yaml").write_text(GAME)
    settings = [*FAST, "local_results_path=results", "medium_score=5", "expert_score=15"]
    process = main_command("--config=qmix", "--env-config=game.yaml", "with", *settings, cwd=folder)
    assert process.returncode == 0, process.stderr
    return next((folder / "results").glob("qmix_game_seed0_*")), process


def test_qmix_learns_a_monotonic_game(whole):
    run, process = whole
    summary = json.loads((run / "summary.json").read_text())
    assert summary["scores"]["test_return_mean"]["final"] == 18
    assert summary["step_unit"] == "environment steps"
    assert summary["milestones"]["expert"]["score"] >= 15
    assert "Replay buffer of 500 episodes" in process.stderr
    rows = metrics(run)
    tested = [int(row["step"]) for row in rows if row["test_return_mean"]]
    assert tested[0] == 0
    assert all(
        250 * k <= step < 250 * k + 32 for k, step in enumerate(tested)
    )  # a round is 16 episodes of 2 steps
    epsilons = [float(row["epsilon"]) for row in rows if row["epsilon"]]
    assert epsilons[-1] == pytest.approx(0.05)
    assert epsilons == sorted(epsilons, reverse=True)
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert {"medium.pt", "medium.replay", "expert.pt"} <= kept
    assert (
        len([name for name in kept if name.startswith("step_") and name.endswith(".replay")]) == 1
    )


class Costly(MatrixGame):
    """As StarCraft II: no more than three games side by side."""

    def make_batch(self, n_envs):
        return super().make_batch(min(n_envs, 3))


def test_a_round_has_its_episodes_however_few_games_run_side_by_side(tmp_path, monkeypatch):
    """Else gradient steps for each episode would depend on how many games a machine can take."""
    monkeypatch.setitem(ENVS, "matrix_game", Costly)
    run = train(tmp_path, "n_parallel=6", "t_max=24", "learning_starts=0", "test_nepisode=3")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["episodes"] == 12  # of two steps
    assert summary["gradient_steps"] == 2 * 3  # two rounds


def test_a_resumed_run_goes_on_to_the_same_numbers(tmp_path, whole):
    milestones = ["medium_score=5", "expert_score=15"]
    half = train(tmp_path, "t_max=500", *milestones, results="half")
    resumed = train(tmp_path, f"checkpoint_path={half}", *milestones, results="resumed")
    assert metrics(resumed) == metrics(whole[0])
    states = [
        th.load(sorted((run / "checkpoints").glob("step_*.pt"))[-1], weights_only=True)
        for run in (whole[0], resumed)
    ]
    assert states[0]["milestones"] == states[1]["milestones"]
    for name, module in states[0]["learner"]["modules"].items():
        for key, value in module.items():
            assert th.equal(value, states[1]["learner"]["modules"][name][key]), (name, key)
    for name in states[0]["milestones"]:
        assert (resumed / "checkpoints" / f"{name}.pt").exists()
    # An older checkpoint acts, but has no replay buffer to go on with.
    older = sorted((half / "checkpoints").glob("step_*.pt"))[0]
    command = [
        "--config=qmix",
        f"--env-config={tmp_path / 'game.yaml'}",
        "with",
        *FAST,
        f"checkpoint_path={older}",
    ]
    assert main.main([*command, f"local_results_path={tmp_path / 'older'}"]) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["test_greedy=False"], "test_greedy=False samples from a policy"),
        (["buffer_size=8"], "must hold a round of n_parallel=16 episodes"),
        (["batch_unit=transitions", "agent=mlp"], "learns from whole episodes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, capsys, settings, message):
    (tmp_path / "game.yaml").write_text(GAME)
    command = ["--config=qmix", f"--env-config={tmp_path / 'game.yaml'}", "with", *FAST, *settings]
    assert main.main(command) == 2
    assert message in capsys.readouterr().err


# --- datasets


def test_a_checkpoint_collects_a_dataset_that_trains(whole, tmp_path):
    run, _ = whole
    here = ["with", f"dataset_root={tmp_path}"]
    assert collect.main([f"--checkpoint={run}", "--name=best", "--episodes=70", *here]) == 0
    data = load_dataset(tmp_path / "game" / "best.h5")
    assert data.n_episodes == 70
    assert (data.returns == 18).all()
    assert data.metadata["policies"][0]["run"] == run.name
    assert data.metadata["policies"][0]["step"] >= 1000
    assert (
        collect.main([f"--checkpoint={run}", "--name=best", "--episodes=70", *here]) == 2
    )  # nothing is written over
    noisy = ["--name=noisy", "--episodes=70", "--epsilon=1"]
    assert collect.main([f"--checkpoint={run}", *noisy, *here]) == 0
    assert 3 < load_dataset(tmp_path / "game" / "noisy.h5").returns.mean() < 10  # at random: 56 / 9

    (tmp_path / "game.yaml").write_text(GAME)
    settings = [
        f"local_results_path={tmp_path}",
        "env_args.dataset=best",
        "t_max=20",
        "use_tensorboard=False",
    ]
    command = [
        "--config=bc",
        f"--env-config={tmp_path / 'game.yaml'}",
        *here,
        *settings,
        "test_nepisode=4",
    ]
    assert main.main(command) == 0
    cloned = next(tmp_path.glob("bc_game_*"))
    for greedy in (False, True):
        command = [
            f"--checkpoint={cloned}",
            f"--name={greedy}",
            "--episodes=4",
            *here,
            f"test_greedy={greedy}",
        ]
        assert collect.main(command) == 0
        assert (
            load_dataset(tmp_path / "game" / f"{greedy}.h5").metadata["policies"][0]["greedy"]
            == greedy
        )


def test_an_interrupted_collection_goes_on_to_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "N_ENVS", 8)
    args, env = make_args("bc", "xor_offline"), MatrixGame(2, 2, [[0, 1], [1, -2]])
    record(tmp_path / "whole.h5", [RANDOM], args, env, episodes=30, seed=1)
    rounds = 0

    def policy(seed):
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise KeyboardInterrupt
        return RANDOM.policy(seed)

    for _ in range(2):
        try:
            record(
                tmp_path / "cut.h5",
                [RANDOM._replace(policy=policy)],
                args,
                env,
                episodes=30,
                seed=1,
            )
        except KeyboardInterrupt:
            assert not (tmp_path / "cut.h5").exists()
    assert rounds == 5  # two, the one that was interrupted, and the two that were missing
    assert (
        load_dataset(tmp_path / "cut.h5").fingerprint
        == load_dataset(tmp_path / "whole.h5").fingerprint
    )


def test_an_interrupted_collection_may_have_more_episodes_than_are_asked_for_then(tmp_path):
    args, env = make_args("bc", "xor_offline"), MatrixGame(2, 2, [[0, 1], [1, -2]])
    rounds = iter(range(1))

    def policy(seed):
        if next(rounds, None) is None:
            raise KeyboardInterrupt
        return RANDOM.policy(seed)

    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "x.h5", [RANDOM._replace(policy=policy)], args, env, episodes=100, seed=1)
    record(tmp_path / "x.h5", [RANDOM], args, env, episodes=10, seed=1)
    assert load_dataset(tmp_path / "x.h5").n_episodes == collection.N_ENVS


def test_a_checkpoints_settings_name_the_simulator_that_plays(monkeypatch):
    """Else a dataset would be kept under sc2/auto."""
    monkeypatch.setattr(sc2, "installed", lambda: "the game is not in /games")
    trained = make_args("qmix", "sc2").model_dump()
    settings = settings_from(trained, {"env_args": {"simulator": "auto", "map_name": "3m"}})
    assert settings.env_args["simulator"] == "smax"


def test_the_metadata_tells_how_many_games_were_played_side_by_side(tmp_path):
    record(
        tmp_path / "x.h5",
        [RANDOM],
        make_args("bc", "xor_offline"),
        Costly(2, 2, [[0, 1], [1, -2]]),
        7,
        seed=1,
    )
    data = load_dataset(tmp_path / "x.h5")
    assert (data.n_episodes, data.metadata["n_envs"]) == (7, 3)


def test_all_datasets_of_a_game(tmp_path, capsys):
    (tmp_path / "game.yaml").write_text(GAME)
    command = [
        f"--env-config={tmp_path / 'game.yaml'}",
        "--episodes=100",
        "with",
        *FAST,
        f"dataset_root={tmp_path}",
    ]
    assert collect.main([*command, "medium_score=3", "expert_score=15"]) == 0
    names = ("random", "medium", "medium-replay", "expert", "mixed")
    sets = {name: load_dataset(tmp_path / "game" / f"{name}.h5") for name in names}
    means = {name: data.returns.mean() for name, data in sets.items()}
    assert means["random"] == pytest.approx(56 / 9, abs=1.5)
    assert means["expert"] == 18
    medium, expert = (sets[name].metadata["policies"][0] for name in ("medium", "expert"))
    assert medium["picked_by"]["threshold"] == 3
    assert medium["picked_by"]["score"] == means["medium"]  # greedy play in a game without chance
    assert expert["step"] >= medium["step"]
    assert sets["medium-replay"].n_transitions == medium["step"]  # all that was played until then
    mixed = sets["mixed"].returns.reshape(-1)
    assert (mixed == means["medium"]).sum() >= 50
    assert (mixed == 18).sum() >= 50
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "game").rglob("*")}
    assert collect.main([*command, "medium_score=3", "expert_score=15"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "game").rglob("*")} == before


def test_no_dataset_is_made_of_a_policy_that_is_not_good_enough(tmp_path, capsys):
    (tmp_path / "game.yaml").write_text(GAME)
    command = [
        f"--env-config={tmp_path / 'game.yaml'}",
        "--episodes=20",
        "with",
        *FAST,
        f"dataset_root={tmp_path}",
    ]
    command += ["t_max=500"]
    assert collect.main([*command, "medium_score=3", "expert_score=19"]) == 2
    message = capsys.readouterr().err
    assert (
        "expert: no policy reached expert_score=19 (the best test_return_mean was 18.000)"
        in message
    )
    made = {path.name for path in (tmp_path / "game").glob("*.h5")}
    assert made == {"random.h5", "medium.h5", "medium-replay.h5"}
    # A longer training goes on from there, and what is made is left alone.
    assert collect.main([*command, "medium_score=3", "expert_score=15", "t_max=1000"]) == 0
    first, second = sorted(
        (tmp_path / "game" / "training").iterdir(), key=lambda path: path.stat().st_mtime_ns
    )
    assert json.loads((second / "config.json").read_text())["checkpoint_path"] == str(first)
    assert (first / "checkpoints" / "medium.pt").read_bytes() == (
        second / "checkpoints" / "medium.pt"
    ).read_bytes()
    assert load_dataset(tmp_path / "game" / "mixed.h5").n_episodes == 20


def test_a_policy_only_plays_the_game_it_was_made_for(whole, tmp_path, capsys):
    command = [f"--checkpoint={whole[0]}", "--name=x", "with", f"dataset_root={tmp_path}"]
    assert collect.main([*command, "env_args.n_actions=2", "env_args.payoff=[[0, 1], [1, 3]]"]) == 2
    message = capsys.readouterr().err
    assert "does not fit this configuration" in message
    assert "the environment's sizes: {'n_agents': 2, 'n_actions': 3" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=nowhere", "--name=x"], "no checkpoint found"),
        (["--random", "--name=x"], "--env-config=NAME is missing"),
        (["--random", "--env-config=xor_offline"], "--name=NAME is missing"),
        (["--env-config=xor_offline", "--config=bc"], "learns offline"),
        (["--env-config=xor_offline"], "medium_score and expert_score must say"),
        (["--env-config=xor_offline", "with", "medium_score"], "not of the form key=value"),
    ],
)
def test_wrong_commands_are_one_message(capsys, arguments, message):
    assert collect.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["maps/x", "..", "auto", ".h5"])
def test_a_dataset_gets_a_name_by_which_it_is_found(capsys, name):
    assert collect.main(["--random", "--env-config=xor_offline", f"--name={name}"]) == 2
    assert "--name: must be a plain name" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "record", interrupted)
    assert collect.main(["--random", "--env-config=xor_offline", "--name=x"]) == 130
    assert capsys.readouterr().err == "Interrupted. The same command resumes.\n"
