"""The picture at the end of a run."""

import warnings

import pytest

from inspo.run.plots import draw_curves
from inspo.run.run_folder import Metrics


@pytest.mark.parametrize("n_agents", [1, 5, 27])
def test_every_number_of_agents_leaves_room_for_the_curves(tmp_path, n_agents):
    """Matplotlib warns where a legend squeezes the axes to nothing."""
    record = Metrics(tmp_path, None, use_tensorboard=False, labels={})
    for step in (10, 20):
        losses = {
            f"{name}/agent_{i}": step + i
            for name in ("value_loss", "q_taken")
            for i in range(n_agents)
        }
        record.log(step, {"test_return_mean": step / 2, "test_battle_won_mean": 0.5, **losses})
    returns = {"return_mean": 3.0, "return_max": 9.0, "battle_won_mean": 0.2}
    summary = {
        "algorithm": "inspo",
        "environment": "sc2_offline",
        "env_args": {},
        "dataset": "mine",
        "seed": 0,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves(
            record,
            summary | {"step_unit": "steps", "dataset_return": returns},
            tmp_path / "curves.png",
        )
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
