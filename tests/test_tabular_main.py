import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inspo.tabular.experiment import (
    TabularConfig,
    exact_limits,
    load_settings,
    make_problem,
    run,
    total_variation,
)
from inspo.tabular_main import main, make_parser
from inspo.utils.command import parse_words
from inspo.utils.config import read_yaml
from inspo.utils.errors import ConfigError, GameError

SCRIPT = Path(__file__).resolve().parents[1] / "src" / "tabular_main.py"
PNG = b"\x89PNG"


def test_the_command_runs_from_any_folder(tmp_path):
    command = [
        sys.executable,
        str(SCRIPT),
        "--game=xor",
        "with",
        "alpha=0.1",
        "beta_start=0",
        "figure=figure.png",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for word in (
        "round",
        "policy",
        "regularised value",
        "QRE residual",
        "largest decrease of V",
        "optimum 1.000",
    ):
        assert word in done.stdout
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
def test_what_the_user_can_mend_is_one_message_and_status_2(arguments, message, capsys):
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
    assert (config.alpha, config.beta_end, config.dataset, config.figure) == (
        0.1,
        None,
        "c",
        "[a].png",
    )


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_mne_prints_every_kind_of_line_and_draws_every_format(tmp_path, capsys, suffix):
    figure = tmp_path / f"mne.{suffix}"
    assert main(["--game=mne", "with", f"figure={figure}"]) == 0
    shown = capsys.readouterr().out
    assert "rounds)" in shown  # the middle ones are left out
    assert "C 1.000000" in shown
    assert figure.stat().st_size > 1000


@pytest.mark.parametrize("dynamics", ["game", "dataset"])
def test_bridge_prints_the_path_to_the_goals(tmp_path, capsys, dynamics):
    settings = [f"dynamics={dynamics}", f"figure={tmp_path / 'bridge.png'}", "compare=none"]
    assert main(["--game=bridge", "with", *settings]) == 0
    assert "both are at their goals after 8 steps" in capsys.readouterr().out


def test_a_game_of_ones_own_with_three_unlike_agents_is_solved_and_drawn(tmp_path, capsys):
    own = tmp_path / "own.yaml"
    payoff = np.random.default_rng(0).normal(size=(2, 3, 4)).round(2).tolist()
    own.write_text(
        f"env: matrix_game\nenv_args: {{n_agents: 3, n_actions: [2, 3, 4], payoff: {payoff}, dataset: even, "
        "datasets: {even: {independent: [[1, 1], [1, 1, 1], [1, 1, 1, 1]]}}}\n"
    )
    for dynamics in ("game", "dataset"):
        assert (
            main(
                [f"--game={own}", "with", f"figure={tmp_path / 'own.png'}", f"dynamics={dynamics}"]
            )
            == 0
        )
        assert "2 x 3 x 4 joint actions" in capsys.readouterr().out


def test_entropy_carries_mne_past_the_local_optimum_and_its_absence_does_not():
    for overrides, expected in (({}, 20), ({"beta_start": 0, "beta_end": None}, 5)):
        config = load_settings("mne", overrides)
        problem = make_problem(config)
        assert problem.episode_return(run(config, problem).policy) == pytest.approx(
            expected, abs=0.01
        )


def test_exact_limits_hold_one_equilibrium_for_each_order_on_xor_and_one_on_mne():
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
    settings = read_yaml(Path(SCRIPT.parent / "config" / "tabular.yaml"))
    games = settings.pop("games")
    assert set(settings) | {"env_config"} == set(TabularConfig.model_fields)
    assert all(set(section) <= set(TabularConfig.model_fields) for section in games.values())
