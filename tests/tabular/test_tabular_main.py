import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from exact_limits import exact_limits, total_variation

from inspo.tabular.experiment import (
    SETTINGS_FILE,
    TabularConfig,
    load_settings,
    make_problem,
    run,
)
from inspo.tabular_main import main, make_parser
from inspo.utils.config import read_yaml
from inspo.utils.errors import ConfigError, GameError
from inspo.utils.words import parse_words

SCRIPT = PROJECT / "src" / "tabular_main.py"
PNG = b"\x89PNG"


def test_the_command_runs_from_any_folder(tmp_path):
    """Also where Python does not search the script's folder, as with `python -P`."""
    command = [sys.executable, SCRIPT, "--game=xor", "with", "alpha=0.1", "figure=figure.png"]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "return of an episode    0.999909   (optimum 1.000000" in done.stdout
    assert (tmp_path / "figure.png").read_bytes().startswith(PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--game=xor with aplha=1", "unknown key 'aplha'; did you mean 'alpha'?"),
        ("--game=xro", "did you mean 'xor'?"),
        ("--gmae=xor", "did you mean '--game'?"),
        ("with alpha=1", "give --game="),
        ("--game=xor alpha=1", "unknown argument 'alpha=1'"),
        ("--game=xor with alpha", "not of the form key=value"),
        ("--game=xor with alpha=0", "alpha and beta are both 0"),
        ("--game=xor with alpha=-1", "greater than or equal to 0"),
        ("--game=xor with alpha=much", "valid number"),
        ("--game=xor with gamma=2", "less than or equal to 1"),
        ("--game=xor with scheme=parallel", "'sequential' or 'simultaneous'"),
        ("--game=xor with beta_start=1 beta_end=0", "decay exponentially"),
        ("--game=xor with dataset=d", "known: a, b, c"),
        ("--game=bridge with dataset=optimla", "did you mean 'optimal'?"),
        ("--game=xor with figure=figure.gif", ".png, .pdf, .svg"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(arguments, message, capsys):
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert "Error: " in captured.err
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_help_lists_every_setting(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for key in TabularConfig.model_fields:
        assert f"{key}:" in shown


def test_values_of_the_command_line_have_types():
    command = ["--game=xor", "with", "alpha=1e-1", "beta_end=null", "dataset=c", "figure=[a].png"]
    options, words = make_parser().parse_with_settings(command)
    assert options.game == "xor"
    config = load_settings(options.game, parse_words(words))
    values = (config.alpha, config.beta_end, config.dataset, config.figure)
    assert values == (0.1, None, "c", "[a].png")


def test_mne_prints_first_and_last_rounds_and_the_policy(tmp_path, capsys):
    figure = tmp_path / "mne.svg"
    assert main(["--game=mne", "with", f"figure={figure}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "alpha 1, beta 20 to 0.1 in 50 rounds, sequential updates, random order"
    rounds = [line.split()[0] for line in lines[4:29]]
    assert rounds[:13] == [*map(str, range(1, 13)), "..."]
    assert rounds[13:] == [str(number) for number in range(40, 52)]
    assert "  state 0, agent 1:  A 0.000000  B 0.000000  C 1.000000" in lines
    assert "return of an episode    20.000000   (optimum 20.000000, behaviour -3.300000)" in lines
    assert "<svg" in figure.read_text()


@pytest.mark.parametrize("dynamics", ["game", "dataset"])
def test_bridge_prints_the_path_to_the_goals(tmp_path, capsys, dynamics):
    settings = [f"dynamics={dynamics}", f"figure={tmp_path / 'bridge.png'}", "compare=none"]
    assert main(["--game=bridge", "with", *settings]) == 0
    assert "both are at their goals after 8 steps" in capsys.readouterr().out


@pytest.mark.parametrize("dynamics", ["game", "dataset"])
def test_a_yaml_of_ones_own_with_three_unequal_agents(tmp_path, capsys, dynamics):
    own = tmp_path / "own.yaml"
    env_args = {
        "n_agents": 3,
        "n_actions": [2, 3, 4],
        "payoff": np.random.default_rng(0).normal(size=(2, 3, 4)).round(2).tolist(),
        "dataset": "even",
        "datasets": {"even": {"independent": [[1, 1], [1, 1, 1], [1, 1, 1, 1]]}},
    }
    own.write_text(json.dumps({"env": "matrix_game", "env_args": env_args}))
    figure = tmp_path / "own.pdf"
    assert main([f"--game={own}", "with", f"figure={figure}", f"dynamics={dynamics}"]) == 0
    assert "2 x 3 x 4 joint actions" in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("overrides", "expected"), [({}, 20), ({"beta_start": 0, "beta_end": None}, 5)]
)
def test_only_with_entropy_mne_leaves_the_local_optimum(overrides, expected):
    config = load_settings("mne", overrides)
    problem = make_problem(config)
    reached = problem.episode_return(run(config, problem).policy)
    assert reached == pytest.approx(expected, abs=0.01)


def test_exact_limits_are_two_equilibria_on_xor_and_one_on_mne():
    limits = exact_limits("xor", dataset="c", alpha=0.1)
    assert len(limits) == 2
    assert sorted(int(joint.argmax()) for joint in limits) == [1, 2]  # AB and BA
    assert all(joint.shape == (2, 2) and joint.max() > 0.99 for joint in limits)
    (joint,) = exact_limits("mne", dataset="imbalanced")
    assert total_variation(joint, np.eye(9)[8].reshape(3, 3)) < 1e-6
    with pytest.raises(GameError, match="no equilibrium within 1 rounds"):
        exact_limits("xor", rounds=1)
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        exact_limits("xor", alhpa=1)


def test_the_settings_file_has_exactly_the_keys_of_the_schema():
    settings = read_yaml(SETTINGS_FILE)
    games = settings.pop("games")
    assert set(settings) | {"env_config"} == set(TabularConfig.model_fields)
    assert all(set(section) <= set(TabularConfig.model_fields) for section in games.values())
