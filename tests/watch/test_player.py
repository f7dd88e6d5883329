"""Which checkpoint plays, and what a film says about it."""

import pytest
from untrained import checkpoint

from inspo.film.player import make_player
from inspo.film.watching import check_same_game
from inspo.run.checkpoint import find_checkpoint, open_checkpoint
from inspo.utils.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with the checkpoints of steps 0, 20 and 40."""
    folder = tmp_path_factory.mktemp("run")
    for step in (0, 20, 40):
        name = f"step_{step:010d}.pt"
        checkpoint(folder / "checkpoints" / name, algorithm="inspo", step=step, seed=step)
    return folder


def player_of(path, greedy=None):
    return make_player(*open_checkpoint(path), greedy)


@pytest.mark.parametrize(
    ("suffix", "step"), [("", 40), (":0", 0), (":20", 20), ("/checkpoints/step_0000000020.pt", 20)]
)
def test_a_run_a_step_or_a_file_names_a_checkpoint(run, suffix, step):
    file, content = open_checkpoint(f"{run}{suffix}")
    assert file == run / "checkpoints" / f"step_{step:010d}.pt"
    assert content["step"] == step


def test_a_folder_may_have_a_colon_in_its_name(run):
    folder = run.parent / "take:2"
    folder.symlink_to(run)
    assert find_checkpoint(str(folder)).stem == "step_0000000040"
    assert find_checkpoint(f"{folder}:20").stem == "step_0000000020"


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (
            ":30",
            r": no checkpoint of step 30 found; there are .*, step_0000000040\. keep_",
        ),
        ("/nowhere", "/nowhere: no checkpoint"),
        ("/nowhere:20", "/nowhere: no checkpoint"),
        (":last", ":last: no checkpoint"),
    ],
)
def test_what_is_not_there_is_named(run, suffix, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(f"{run}{suffix}")


def test_titles_name_algorithm_game_dataset_and_step(run):
    trained, clone = player_of(run), player_of(f"{run}:0")
    assert (trained.title, trained.subtitle) == ("InSPO", "xor, dataset c, step 40")
    assert (clone.title, clone.subtitle) == (
        "Behaviour cloning",
        "xor, dataset c, InSPO at step 0",
    )


def test_a_long_name_of_a_dataset_is_cut(tmp_path):
    dataset = f"/somewhere/{'x' * 30}.h5"
    file = checkpoint(tmp_path / "a.pt", env_args={"dataset": dataset}, step=1000)
    player = player_of(file)
    assert (player.title, player.subtitle) == ("BC", f"xor, dataset {'x' * 24}…, step 1,000")


@pytest.mark.parametrize("evaluated_greedily", [True, False])
def test_policies_act_as_they_were_evaluated_unless_told(tmp_path, evaluated_greedily):
    file = checkpoint(tmp_path / "a.pt", test_greedy=evaluated_greedily)
    assert player_of(file).policy(0).greedy is evaluated_greedily
    assert player_of(file, greedy=True).policy(0).greedy is True
    assert player_of(file, greedy=False).policy(0).greedy is False


def test_actions_are_drawn_from_the_episodes_seed(tmp_path):
    player = player_of(checkpoint(tmp_path / "a.pt"))
    assert [player.policy(seed).generator.initial_seed() for seed in (0, 7)] == [0, 7]


def test_players_of_one_game_may_have_different_datasets(tmp_path):
    players = [
        player_of(checkpoint(tmp_path / f"{name}.pt", env_args={"dataset": name}))
        for name in ("a", "c")
    ]
    check_same_game(players)


def test_players_of_different_games_are_refused(tmp_path):
    players = [
        player_of(checkpoint(tmp_path / f"{start}.pt", "bridge_offline", env_args={"start": start}))
        for start in ("bridge", "apart")
    ]
    message = r"the runs play different games \(start: bridge and apart\)"
    with pytest.raises(ConfigError, match=message):
        check_same_game(players)
    matrix = player_of(checkpoint(tmp_path / "xor.pt"))
    with pytest.raises(ConfigError, match="env: bridge and matrix_game"):
        check_same_game([players[0], matrix])
