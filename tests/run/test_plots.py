"""The picture at the end of a run."""

import warnings

import pytest

from inspo.run.plots import draw_curves, make_figure
from inspo.run.run_folder import Metrics

SUMMARY = {
    "algorithm": "inspo",
    "environment": "sc2_offline",
    "env_args": {"simulator": "smax", "map_name": "2s3z", "episode_limit": 120},
    "dataset": "/data/medium",
    "seed": 3,
    "step_unit": "gradient steps",
    "dataset_return": {"return_mean": 3.0, "return_max": 9.0, "battle_won_mean": 0.2},
}


def record(tmp_path, n_agents=2):
    """Two steps of scores, and of value losses for each agent."""
    metrics = Metrics(tmp_path, None, use_tensorboard=False, labels={})
    for step in (10, 20):
        losses = {f"value_loss/agent_{agent}": step + agent for agent in range(n_agents)}
        scores = {"test_return_mean": step / 2, "test_battle_won_mean": step / 40}
        metrics.log(step, {**scores, **losses, "not_drawn": 1.0})
    return metrics


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_scores_stand_beside_those_of_the_dataset(tmp_path):
    figure = make_figure(record(tmp_path), SUMMARY)
    returns, wins, _ = figure.axes
    score, mean, best = returns.lines
    assert score.get_xdata().tolist() == [10, 20]
    assert score.get_ydata().tolist() == [5.0, 10.0]
    assert mean.get_ydata() == [3.0, 3.0]
    assert best.get_ydata() == [9.0, 9.0]
    assert texts(returns.get_legend()) == ["dataset mean", "dataset best"]
    assert [line.get_ydata()[0] for line in wins.lines] == [0.25, 0.2]
    assert [axis.get_title() for axis in (returns, wins)] == ["test return", "test win rate"]
    assert returns.get_xlabel() == "gradient steps"
    title = "inspo on sc2_offline smax 2s3z, dataset medium, seed 3"
    assert figure.get_suptitle() == title


def test_each_agent_has_a_line_and_its_name_stands_once(tmp_path):
    figure = make_figure(record(tmp_path), SUMMARY)
    losses = figure.axes[2]
    assert losses.get_title() == "value loss"
    assert [line.get_ydata().tolist() for line in losses.lines] == [[10, 20], [11, 21]]
    assert [line.get_color() for line in losses.lines] == ["C0", "C1"]
    (legend,) = figure.legends
    assert texts(legend) == ["agent 0", "agent 1"]
    assert losses.get_legend() is None


def test_an_online_run_has_no_dataset(tmp_path):
    online = SUMMARY | {"dataset": "", "dataset_return": None, "step_unit": "environment steps"}
    figure = make_figure(record(tmp_path), online)
    assert [len(axis.lines) for axis in figure.axes] == [1, 1, 2]
    assert figure.get_suptitle() == "inspo on sc2_offline smax 2s3z, seed 3"
    assert figure.axes[0].get_xlabel() == "environment steps"


def test_a_single_evaluation_is_a_dot(tmp_path):
    metrics = Metrics(tmp_path, None, use_tensorboard=False, labels={})
    metrics.log(0, {"test_return_mean": 1.5})
    (axis,) = make_figure(metrics, SUMMARY).axes
    assert axis.lines[0].get_marker() == "o"


def test_nothing_to_draw(tmp_path):
    metrics = Metrics(tmp_path, None, use_tensorboard=False, labels={})
    metrics.log(1, {"not_drawn": 1.0})
    draw_curves(metrics, SUMMARY, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("n_agents", [1, 8, 27])
def test_every_number_of_agents_leaves_room_for_the_curves(tmp_path, n_agents):
    """Matplotlib warns if a legend leaves no room for the axes."""
    metrics = record(tmp_path, n_agents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves(metrics, SUMMARY, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    figure = make_figure(metrics, SUMMARY)
    losses = figure.axes[2]
    assert len(losses.lines) == n_agents
    assert losses.get_title() == ("value loss, 27 agents" if n_agents == 27 else "value loss")
    assert len(figure.legends) == (1 if n_agents == 8 else 0)
