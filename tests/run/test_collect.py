"""The command `python src/collect.py`, and the datasets that it makes."""

import json

import pytest
from conftest import make_args
from online_game import FAST, FAST_MAPPO, RANDOM_RETURN, train_mappo, train_qmix, write_game

from inspo import collect, main
from inspo.data.formats import load_dataset
from inspo.envs import sc2
from inspo.envs.matrix_game import MatrixGame
from inspo.run import collection
from inspo.run.collection import RANDOM, record
from inspo.run.settings import settings_from

XOR = (2, 2, [[0, 1], [1, -2]])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of QMIX that has solved its game."""
    return train_qmix(tmp_path_factory.mktemp("trained"))


def test_a_checkpoint_collects_a_dataset(trained, tmp_path):
    command = [f"--checkpoint={trained}", "--episodes=70"]
    here = ["with", f"dataset_root={tmp_path}"]
    assert collect.main([*command, "--name=best", *here]) == 0
    data = load_dataset(tmp_path / "game" / "best.h5")
    assert data.n_episodes == 70
    assert (data.returns == 18).all()
    policy = data.metadata["policies"][0]
    assert policy["run"] == trained.name
    assert policy["step"] >= 1000
    assert collect.main([*command, "--name=best", *here]) == 2  # nothing is overwritten
    assert collect.main([*command, "--name=noisy", "--epsilon=1", *here]) == 0
    noisy = load_dataset(tmp_path / "game" / "noisy.h5")
    assert noisy.returns.mean() == pytest.approx(RANDOM_RETURN, abs=2)


def test_an_offline_policy_trained_on_it_collects_greedily_or_not(trained, tmp_path):
    here = f"dataset_root={tmp_path}"
    command = [f"--checkpoint={trained}", "--name=best", "--episodes=70", "with", here]
    assert collect.main(command) == 0
    settings = ["env_args.dataset=best", "t_max=20", "use_tensorboard=False", "test_nepisode=4"]
    where = f"local_results_path={tmp_path}"
    assert main.main(["--config=bc", write_game(tmp_path), "with", here, where, *settings]) == 0
    cloned = next(tmp_path.glob("bc_game_*"))
    for greedy in (False, True):
        command = [f"--checkpoint={cloned}", f"--name={greedy}", "--episodes=4"]
        assert collect.main([*command, "with", here, f"test_greedy={greedy}"]) == 0
        data = load_dataset(tmp_path / "game" / f"{greedy}.h5")
        assert data.metadata["policies"][0]["greedy"] == greedy


def random_player_that_stops(round_number: int):
    """Ctrl-C at the start of a round."""
    rounds = 0

    def policy(seed):
        nonlocal rounds
        rounds += 1
        if rounds == round_number:
            raise KeyboardInterrupt
        return RANDOM.policy(seed)

    return RANDOM._replace(policy=policy)


def test_an_interrupted_collection_resumes_to_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "N_ENVS", 8)
    args, env = make_args("bc", "xor_offline"), MatrixGame(*XOR)
    record(tmp_path / "whole.h5", [RANDOM], args, env, episodes=30, seed=1)
    cut = tmp_path / "cut.h5"
    with pytest.raises(KeyboardInterrupt):
        record(cut, [random_player_that_stops(3)], args, env, episodes=30, seed=1)
    assert not cut.exists()
    # Two of four rounds are played already: a third one is not needed.
    record(cut, [random_player_that_stops(3)], args, env, episodes=30, seed=1)
    assert load_dataset(cut).fingerprint == load_dataset(tmp_path / "whole.h5").fingerprint


def test_an_interrupted_collection_may_have_more_episodes_than_are_asked_for_later(tmp_path):
    args, env, path = make_args("bc", "xor_offline"), MatrixGame(*XOR), tmp_path / "x.h5"
    with pytest.raises(KeyboardInterrupt):
        record(path, [random_player_that_stops(2)], args, env, episodes=100, seed=1)
    record(path, [RANDOM], args, env, episodes=10, seed=1)
    assert load_dataset(path).n_episodes == collection.N_ENVS


def test_players_take_turns(tmp_path, monkeypatch):
    """The last turns are shortened so that both play the same number of episodes."""
    monkeypatch.setattr(collection, "N_ENVS", 4)
    played = []

    def player(number):
        def policy(seed):
            played.append(number)
            return RANDOM.policy(seed)

        return RANDOM._replace(policy=policy)

    args, path = make_args("bc", "xor_offline"), tmp_path / "x.h5"
    record(path, [player(0), player(1)], args, MatrixGame(*XOR), episodes=14, seed=1)
    assert played == [0, 1, 0, 1]  # 4, 4, 3 and 3 episodes
    assert load_dataset(path).n_episodes == 14


class Costly(MatrixGame):
    """Like StarCraft II: no more than three games in parallel."""

    def make_batch(self, n_envs):
        return super().make_batch(min(n_envs, 3))


def test_the_metadata_has_the_number_of_games_in_parallel(tmp_path):
    args, path = make_args("bc", "xor_offline"), tmp_path / "x.h5"
    record(path, [RANDOM], args, Costly(*XOR), episodes=7, seed=1)
    data = load_dataset(path)
    assert (data.n_episodes, data.metadata["n_envs"]) == (7, 3)


def test_a_checkpoints_settings_name_the_simulator_that_plays(monkeypatch):
    """Otherwise a dataset would be kept under sc2/auto."""
    monkeypatch.setattr(sc2, "starcraft_problem", lambda: "the game is not in /games")
    trained = make_args("qmix", "sc2").model_dump()
    settings = settings_from(trained, {"env_args": {"simulator": "auto", "map_name": "3m"}})
    assert settings.env_args["simulator"] == "smax"


@pytest.fixture
def collect_all(tmp_path):
    """Runs the command that makes all datasets of the game; returns its exit status."""
    game = write_game(tmp_path)

    def collect_all(episodes: int, *settings: str) -> int:
        where = f"dataset_root={tmp_path}"
        return collect.main([game, f"--episodes={episodes}", "with", *FAST, where, *settings])

    return collect_all


def test_all_datasets_of_a_game(collect_all, tmp_path):
    scores = ["medium_score=3", "expert_score=15"]
    assert collect_all(100, *scores) == 0
    names = ("random", "medium", "medium-replay", "expert", "mixed")
    sets = {name: load_dataset(tmp_path / "game" / f"{name}.h5") for name in names}
    means = {name: data.returns.mean() for name, data in sets.items()}
    assert means["random"] == pytest.approx(RANDOM_RETURN, abs=1.5)
    assert means["expert"] == 18
    medium, expert = (sets[name].metadata["policies"][0] for name in ("medium", "expert"))
    assert medium["picked_by"]["threshold"] == 3
    assert medium["picked_by"]["score"] == means["medium"]  # greedy play in a game without chance
    assert expert["step"] >= medium["step"]
    assert sets["medium-replay"].n_transitions == medium["step"]  # all that was played until then
    mixed = sets["mixed"].returns.reshape(-1)
    assert (mixed == means["medium"]).sum() >= 50
    assert (mixed == 18).sum() >= 50
    # A second time, nothing is left to do.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "game").rglob("*")}
    assert collect_all(100, *scores) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "game").rglob("*")}
    assert after == before


def test_a_policy_below_its_threshold_makes_no_dataset(collect_all, tmp_path, capsys):
    folder = tmp_path / "game"
    assert collect_all(20, "t_max=500", "medium_score=3", "expert_score=19") == 2
    reason = "no policy of the training reached its expert_score=19"
    reason += " (the best test_return_mean was 18.000)"
    assert f"expert: {reason}" in capsys.readouterr().err
    # The training is over, and kept no policy below its own threshold.
    assert collect_all(20, "t_max=500", "medium_score=3", "expert_score=15") == 2
    assert f"expert: {reason}" in capsys.readouterr().err
    made = {path.name for path in folder.glob("*.h5")}
    assert made == {"random.h5", "medium.h5", "medium-replay.h5"}
    # A longer training resumes the first one and keeps its medium policy.
    assert collect_all(20, "t_max=1000", "medium_score=3", "expert_score=15") == 0
    runs = (folder / "training").iterdir()
    first, second = sorted(runs, key=lambda path: path.stat().st_mtime_ns)
    assert json.loads((second / "config.json").read_text())["checkpoint_path"] == str(first)
    medium = [(run / "checkpoints" / "medium.pt").read_bytes() for run in (first, second)]
    assert medium[0] == medium[1]
    assert load_dataset(folder / "mixed.h5").n_episodes == 20


def test_a_training_of_other_settings_is_not_taken(tmp_path, capsys):
    """Not even if it is finished."""
    train_mappo(tmp_path, results="game/training")
    command = [write_game(tmp_path), "--episodes=8", "--config={}", "with"]
    scores = ["t_max=500", "medium_score=3", "expert_score=15", f"dataset_root={tmp_path}"]
    for config, settings, message in [
        ("qmix", [], "is a training of mappo, not of qmix; with another dataset_root a new"),
        ("mappo", [*FAST_MAPPO, "lr=0.02"], "lr: 0.01 there, 0.02 here\nHere, with another"),
    ]:
        words = [word.format(config) for word in command]
        assert collect.main([*words, *settings, *scores]) == 2
        assert message in capsys.readouterr().err
    assert not list((tmp_path / "game").glob("*.h5"))


def test_a_policy_that_plays_another_game_of_its_sizes_gets_a_warning(trained, tmp_path, caplog):
    command = [f"--checkpoint={trained}", "--episodes=2", "--name={}", "with"]
    command += [f"dataset_root={tmp_path}", "env_args.episode_limit={}"]
    told = "The policy was trained on episodes of another game: env_args.episode_limit was 2, is 3"
    for limit in (2, 3):
        assert told not in caplog.text
        assert collect.main([word.format(limit) for word in command]) == 0
    assert told in caplog.text


def test_a_policy_only_plays_the_game_it_was_made_for(trained, tmp_path, capsys):
    command = [f"--checkpoint={trained}", "--name=x", "with", f"dataset_root={tmp_path}"]
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
        (["--checkpoint=x", "--name=x", "--env-config=sc2"], "--env-config: a checkpoint has its"),
        (
            ["--random", "--name=x", "--env-config=xor_offline", "--epsilon=0.1", "--load-step=3"],
            "--load-step, --epsilon: only with --checkpoint",
        ),
        (
            ["--env-config=sc2", "--name=uniform"],
            "--name: only with --random or --checkpoint; without, all datasets are made",
        ),
        (["--env-config=xor_offline", "--config=bc"], "learns offline"),
        (["--env-config=xor_offline"], "medium_score and expert_score are missing"),
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


def test_an_interrupted_command_says_how_to_resume(monkeypatch, capsys, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "record", interrupted)
    command = ["--random", "--env-config=xor_offline", "--name=x"]
    assert collect.main([*command, "with", f"dataset_root={tmp_path}"]) == 130
    assert capsys.readouterr().err == "Interrupted. The same command resumes.\n"
