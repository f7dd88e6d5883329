"""standardise_obs and standardise_rewards from the dataset to the checkpoint and into play."""

import json

import numpy as np
import pytest
import torch as th
from conftest import make_args

import inspo
from inspo import main
from inspo.data.scaling import scaling_of
from inspo.run.checkpoint import find_checkpoint, load_checkpoint
from inspo.utils.errors import ConfigError
from inspo.utils.files import save_torch

ON = ["standardise_obs=True", "standardise_rewards=True"]
TINY = {
    "hidden_dim": 8,
    "batch_size": 8,
    "critic_hidden_dim": 8,
    "behaviour_steps": 5,
    "behaviour_batch_size": 8,
    "updates_per_agent": 1,
    "log_interval": 8,
    "test_interval": 4,
    "test_nepisode": 3,
    "save_model_interval": 4,
    "use_tensorboard": False,
}


def train(folder, *settings, t_max=8):
    """Trains InSPO on Bridge, whose goals are constant and whose cells are not."""
    where = [f"local_results_path={folder / 'results'}", f"dataset_root={folder / 'dataset'}"]
    tiny = [f"{key}={value}" for key, value in TINY.items()]
    words = [*tiny, *where, f"t_max={t_max}", "lr_decay_steps=null", *settings]
    assert main.main(["--config=inspo", "--env-config=bridge_offline", "with", *words]) == 0
    return max((folder / "results").iterdir(), key=lambda run: run.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def standardised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standardised")
    return folder, train(folder, *ON)


def content_of(run):
    return load_checkpoint(find_checkpoint(run))


def test_the_checkpoint_keeps_the_datasets_numbers(standardised):
    folder, run = standardised
    (file,) = (folder / "dataset" / "bridge_offline").glob("*.h5")
    data = inspo.load_dataset(file)
    scaling = scaling_of(data, rewards=True, observations=True)
    kept = content_of(run)["scaling"]
    assert kept.keys() == scaling.keys()
    for name, values in scaling.items():
        np.testing.assert_array_equal(kept[name], values)
    about = json.loads((run / "run_info.json").read_text())
    assert about["dataset_fingerprint"] == data.fingerprint
    assert about["dataset_return"]["return_mean"] == pytest.approx(data.returns.mean())


def test_a_policy_scales_what_it_observes(standardised):
    _, run = standardised
    policy = inspo.load_policy(run)
    scaling = content_of(run)["scaling"]
    obs = th.randint(6, (20, 2, 8)).float()
    free = th.ones(20, 2, 5, dtype=th.bool)
    arguments = (free, th.full((20, 2), -1), policy.init_hidden(20), True)
    actions, _ = policy.act(obs, *arguments)
    by_hand = (obs - scaling["obs_mean"]) / scaling["obs_std"]
    policy.obs_mean = None
    unscaled, _ = policy.act(obs, *arguments)
    assert th.equal(actions, policy.act(by_hand.clamp(-10, 10), *arguments)[0])
    assert not th.equal(actions, unscaled)


def test_evaluations_repeat_the_runs_own(standardised, capsys):
    folder, run = standardised
    score = inspo.Run(run).scores["test_return_mean"]["final"]
    assert inspo.evaluate(run)["test_return_mean"] == score
    again = train(folder, f"checkpoint_path={run}", "evaluate=True")  # without naming the settings
    capsys.readouterr()
    row = (again / "metrics.csv").read_text().splitlines()[1]
    assert str(score) in row


def test_a_resumed_run_repeats_the_uninterrupted_one(standardised, tmp_path):
    folder, run = standardised
    first = run / "checkpoints" / "step_0000000004.pt"
    train(folder, *ON, f"checkpoint_path={first}", f"local_results_path={tmp_path}")
    (resumed,) = tmp_path.iterdir()
    there, here = content_of(run)["learner"], content_of(resumed)["learner"]
    assert str(there) == str(here)
    assert (run / "metrics.csv").read_text() == (resumed / "metrics.csv").read_text()


def test_a_resumed_runs_time_includes_that_before_it(standardised, tmp_path):
    folder, run = standardised
    first = run / "checkpoints" / "step_0000000004.pt"
    content = load_checkpoint(first)
    assert 0 < content["wall_seconds"] < inspo.Run(run).summary["wall_time_seconds"] + 0.1
    save_torch(content | {"wall_seconds": 5000.0}, tmp_path / "step_0000000004.pt")
    where = f"local_results_path={tmp_path / 'results'}"
    train(folder, *ON, f"checkpoint_path={tmp_path / 'step_0000000004.pt'}", where)
    (resumed,) = (tmp_path / "results").iterdir()
    assert 5000 < inspo.Run(resumed).summary["wall_time_seconds"] < 6000


def test_what_a_policy_was_not_trained_with_is_refused(standardised, tmp_path, capsys):
    _, run = standardised
    content = content_of(run)
    content["config"] = content["config"] | {"standardise_obs": False, "standardise_rewards": False}
    save_torch(content | {"scaling": {}}, tmp_path / "x.pt")
    words = ["evaluate=True", f"checkpoint_path={tmp_path / 'x.pt'}", "standardise_obs=True"]
    where = [f"{key}={value}" for key, value in TINY.items()]
    command = ["--config=inspo", "--env-config=bridge_offline", "with", *where, *words]
    assert main.main([*command, f"local_results_path={tmp_path / 'results'}"]) == 2
    assert "were trained without it" in capsys.readouterr().err
    assert not list((tmp_path / "results").glob("*"))


def test_settings_and_scaling_must_agree(standardised, tmp_path, capsys):
    _, run = standardised
    content = content_of(run)
    for change, problem in (
        ({"scaling": {}}, "scaling holds [], not ['obs_mean'"),
        ({"scaling": content["scaling"] | {"obs_std": th.zeros(8)}}, "obs_std is not positive"),
        ({"scaling": content["scaling"] | {"obs_std": th.ones(3)}}, "scaling.obs_std is tensor"),
        ({"scaling": 3}, "scaling is 3"),
    ):
        save_torch(content | change, tmp_path / "x.pt")
        with pytest.raises(inspo.UserError) as error:
            inspo.load_policy(tmp_path / "x.pt")
        assert problem in str(error.value)


def test_a_checkpoint_from_before_these_settings_loads(standardised, tmp_path):
    _, run = standardised
    content = content_of(run)
    del content["scaling"]
    for key in ("standardise_obs", "standardise_rewards"):
        del content["config"][key]
    save_torch(content, tmp_path / "x.pt")
    assert inspo.load_policy(tmp_path / "x.pt").obs_mean is None


def test_the_former_name_of_reward_scalarisation_still_loads(standardised, tmp_path):
    _, run = standardised
    content = content_of(run)
    env_args = {**content["config"]["env_args"], "common_reward": "sum"}
    content["config"] = content["config"] | {"env_args": env_args}
    save_torch(content, tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt")["config"]["env_args"]
    assert loaded["reward_scalarisation"] == "sum"
    assert "common_reward" not in loaded


@pytest.mark.parametrize(
    ("setting", "value"),
    [("standardise_obs", True), ("reward_scalarisation", "sum")],
)
def test_online_runs_refuse_what_needs_a_dataset(setting, value):
    with pytest.raises(ConfigError, match=rf"{setting}: .*; online runs have none \(given:"):
        make_args("qmix", "xor_offline", **{setting: value})


def test_on_policy_runs_refuse_scaled_rewards():
    with pytest.raises(ConfigError, match="standardise_rewards: is for datasets and replay"):
        make_args("mappo", "xor_offline", standardise_rewards=True)
