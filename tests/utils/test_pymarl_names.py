"""Settings and names of PyMARL, EPyMARL, OffPyMARL and CFCQL: each is known here or answered."""

import pytest
import yaml

from inspo.run.settings import REGISTRIES, settings_of
from inspo.utils.errors import ConfigError
from inspo.utils.layers import CONFIG_DIR
from inspo.utils.pymarl_names import FILE, answer_to_key, answer_to_name
from inspo.utils.yaml_files import read_yaml

EPYMARL_DEFAULT = """
runner mac env common_reward reward_scalarisation env_args batch_size_run test_nepisode
test_interval test_greedy log_interval runner_log_interval learner_log_interval t_max use_cuda
buffer_cpu_only use_tensorboard use_wandb wandb_team wandb_project wandb_mode wandb_save_model
save_model save_model_interval checkpoint_path evaluate render load_step save_replay
local_results_path gamma batch_size buffer_size lr optim_alpha optim_eps grad_norm_clip
add_value_last_step agent hidden_dim obs_agent_id obs_last_action repeat_id label hypergroup
"""
EPYMARL_QMIX = {
    "action_selector": "epsilon_greedy",
    "epsilon_start": 1.0,
    "epsilon_finish": 0.05,
    "epsilon_anneal_time": 50000,
    "evaluation_epsilon": 0.0,
    "runner": "episode",
    "buffer_size": 5000,
    "target_update_interval_or_tau": 200,
    "obs_agent_id": True,
    "obs_last_action": False,
    "obs_individual_obs": False,
    "standardise_returns": False,
    "standardise_rewards": True,
    "agent_output_type": "q",
    "learner": "q_learner",
    "double_q": True,
    "mixer": "qmix",
    "use_rnn": False,
    "mixing_embed_dim": 32,
    "hypernet_layers": 2,
    "hypernet_embed": 64,
    "name": "qmix",
}
EPYMARL_MAPPO = {
    "action_selector": "soft_policies",
    "mask_before_softmax": True,
    "runner": "parallel",
    "buffer_size": 10,
    "batch_size_run": 10,
    "batch_size": 10,
    "target_update_interval_or_tau": 0.01,
    "lr": 0.0003,
    "hidden_dim": 128,
    "obs_agent_id": True,
    "obs_last_action": False,
    "obs_individual_obs": False,
    "agent_output_type": "pi_logits",
    "learner": "ppo_learner",
    "entropy_coef": 0.001,
    "use_rnn": True,
    "standardise_returns": False,
    "standardise_rewards": True,
    "q_nstep": 5,
    "critic_type": "cv_critic",
    "epochs": 4,
    "eps_clip": 0.2,
    "name": "mappo",
    "t_max": 20050000,
}
CFCQL = {
    "action_selector": "epsilon_greedy",
    "epsilon_start": 1.0,
    "epsilon_finish": 0.05,
    "epsilon_anneal_time": 100000,
    "runner": "parallel",
    "batch_size_run": 8,
    "t_max": 10050000,
    "buffer_size": 5000,
    "batch_size": 128,
    "optimizer": "adam",
    "target_update_interval": 200,
    "mac": "n_mac",
    "agent": "n_rnn",
    "agent_output_type": "q",
    "learner": "cq_learner",
    "mixer": "qmix",
    "mixing_embed_dim": 32,
    "hypernet_embed": 64,
    "lr": 0.001,
    "td_lambda": 0.6,
    "q_lambda": False,
    "use_layer_norm": False,
    "use_orthogonal": False,
    "gain": 0.01,
    "use_per": False,
    "per_alpha": 0.6,
    "per_beta": 0.4,
    "return_priority": False,
    "use_offline": True,
    "use_sarsa": False,
    "cql_alpha": 5.0,
    "global_cql_alpha": 50.0,
    "training_episodes": 5000,
    "moderate_lambda": True,
    "softmax_temp": 5,
    "raw_cql": False,
    "raw_sample_actions": 100,
    "name": "cql_qmix_env=8_adam_td_lambda",
}
OFFPYMARL_CFCQL = {
    "action_selector": "epsilon_greedy",
    "runner": "episode",
    "buffer_size": 5000,
    "target_update_interval_or_tau": 200,
    "agent_output_type": "q",
    "behaviour_log_interval": 2000,
    "behaviour_model_path": "",
    "behaviour_t_max": 20000,
    "learner": "cfcq_learner",
    "mixer": "nmix",
    "train_behaviour": True,
    "global_cql_alpha": 50.0,
    "raw_cql": False,
    "sparse_lambda": False,
    "softmax_temp": 5,
    "training_episodes": 5000,
    "raw_sample_actions": 100,
    "cal_target": "td_lambda",
    "cal_dcql": False,
    "behaviour_mini_epoch": 1,
    "name": "cfcql",
}
FILES = {
    "epymarl_qmix": EPYMARL_QMIX,
    "epymarl_mappo": EPYMARL_MAPPO,
    "cfcql": CFCQL,
    "offpymarl_cfcql": OFFPYMARL_CFCQL,
}
PARTS = ("learner", "runner", "mac", "agent", "mixer")


def problems_of(tmp_path, content: dict, option: str = "config", words=()) -> list[str]:
    """What a YAML with this content is refused for, one problem a line."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(content))
    configs = {"config": "bc", "env_config": "sc2_offline", option: str(mine)}
    with pytest.raises(ConfigError) as error:
        settings_of(configs["config"], configs["env_config"], words)
    return [line.strip() for line in str(error.value).splitlines()]


@pytest.mark.parametrize("file", FILES)
def test_one_run_tells_all_of_pymarl_in_an_algorithms_yaml(tmp_path, file):
    content = FILES[file]
    problems = problems_of(tmp_path, content)
    label = f"in --config={tmp_path / 'mine.yaml'}"
    for key in content:
        told = [line for line in problems if line.startswith(f"unknown key '{key}' {label}; ")]
        assert len(told) == (key not in REGISTRIES.all_keys)
    for setting in PARTS:
        name = content.get(setting)
        known = setting not in content or not answer_to_name(setting, name)
        told = [line for line in problems if line.startswith(f"unknown {setting} '{name}'; ")]
        assert len(told) == (not known)
    assert not [line for line in problems if "did you mean" in line]


def test_every_key_of_epymarls_default_is_known_or_answered():
    unknown = [key for key in EPYMARL_DEFAULT.split() if key not in REGISTRIES.all_keys]
    assert len(unknown) > 10
    assert not [key for key in unknown if not answer_to_key(key)]


def test_names_of_several_parts_are_answered_at_once(tmp_path):
    content = {
        "name": "x",
        "learner": "pac_learner",
        "runner": "parallel",
        "mac": "maddpg_mac",
        "agent": "rnn_ns",
        "mixer": "qtran_base",
        "seed": -1,
    }
    problems = problems_of(tmp_path, content, words=["env=gymma"])
    for setting in PARTS:
        (told,) = [line for line in problems if line.startswith(f"unknown {setting} ")]
        assert told.startswith(f"unknown {setting} '{content[setting]}'; ")
    assert any(line.startswith("unknown env 'gymma'; here pettingzoo") for line in problems)
    assert any(line.startswith("seed: ") for line in problems)


def test_settings_of_other_environments_are_answered(tmp_path):
    content = {
        "env": "sc2",
        "env_args": {"map_name": "3m", "seed": None, "time_limit": 9, "use_cpp_rvo2": True},
        "runner_log_interval": 10,
    }
    problems = problems_of(tmp_path, content, "env_config")
    for key in ("env_args.seed", "env_args.time_limit", "env_args.use_cpp_rvo2"):
        assert any(line.startswith(f"unknown key '{key}' in --env-config=") for line in problems)
    assert sum("; here log_interval" in line for line in problems) == 1
    assert not any("map_name" in line for line in problems)


@pytest.mark.parametrize(
    ("config", "env_config", "answer"),
    [
        ("ippo", "xor_offline", "the online algorithms are mappo, qmix, vdn and iql"),
        ("iql_ns", "xor_offline", "here iql with share_parameters=False"),
        ("cql_qmix.yaml", "xor_offline", "here cfcql"),
        ("bc", "gymma", "env: pettingzoo or env: gymnasium, and env_args.key"),
        ("bc", "sc2_beta", "here sc2"),
        ("bc", "sc2v2", "here sc2_gen_protoss"),
    ],
)
def test_their_options_are_answered(config, env_config, answer):
    with pytest.raises(ConfigError, match=f"there is no such .*; .*{answer}"):
        settings_of(config, env_config)


def test_a_setting_of_other_learners_names_them(tmp_path):
    (told,) = problems_of(tmp_path, {"base": "bc", "epsilon_start": 1.0})
    assert told.endswith("; only read by qmix_learner")


def test_nothing_is_suggested_rather_than_something_far(tmp_path):
    content = {"base": "bc", "warmup_percentage": 1, "lrr": 0.1}
    problems = problems_of(tmp_path, content)
    assert next(line for line in problems if "warmup_percentage" in line).endswith("mine.yaml")
    assert next(line for line in problems if "lrr" in line).endswith("; did you mean 'lr'?")
    (told,) = problems_of(tmp_path, {"base": "bc", "learner": "sac_learner"})
    assert "did you mean" not in told


def test_what_is_answered_does_not_exist():
    answers = read_yaml(FILE)
    assert not [key for key in answers["keys"] if key in REGISTRIES.all_keys]
    for setting in PARTS:
        for name in answers["names"][setting]:
            with pytest.raises(ConfigError, match=f"unknown {setting} '{name}'; "):
                (REGISTRIES.parts | {"learner": REGISTRIES.schema_of})[setting](name)
    for option, kind in (("config", "algs"), ("env_config", "envs")):
        shipped = {path.stem for path in (CONFIG_DIR / kind).glob("*.yaml")}
        assert not shipped.intersection(answers["names"][option])
