"""Learners, controllers, environments and mixers in a package of the user's own."""

import re
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import metrics

from inspo.data.formats import from_episodes, write_h5
from inspo.data.recorder import record_episode
from inspo.main import main
from inspo.run.checkpoint import load_policy
from inspo.utils.config import lookup
from inspo.utils.errors import ConfigError

GAME = '''
import numpy as np

from inspo.envs import MultiAgentEnv


class Game(MultiAgentEnv):
    """Two agents, three actions, `length` steps; the reward is the share of `best` actions."""

    n_agents, n_actions, obs_shape, state_shape = 2, 3, 2, 1

    def __init__(self, length=2, **options):
        self.episode_limit = length
        self.best = options.pop("best", 0)
        if options:
            raise ValueError(f"no such option: {options}")
        self.steps = 0

    def reset(self, seed=None):
        self.steps = 0
        return self.get_obs()

    def step(self, actions):
        reward = float(np.mean(self.check_actions(actions) == self.best))
        self.steps += 1
        return self.get_obs(), reward, False, self.steps == self.episode_limit, {}

    def get_obs(self):
        return np.full((2, 2), self.steps, dtype=np.float32)

    def get_state(self):
        return np.full(1, self.steps, dtype=np.float32)
'''
PARTS = '''
from torch import nn

from inspo.controllers import BasicMAC
from inspo.learners.bc_learner import BCLearner
from inspo.learners.qmix_cql_learner import QMIXCQLLearner
from inspo.learners.value_decomposition_learner import ConservativeConfig
from inspo.modules.mixers import Mixer
from inspo.utils.config import Positive, RunConfig


class SlowBCConfig(RunConfig):
    slowness: Positive


class SlowBC(BCLearner):
    """Behaviour cloning with a smaller learning rate."""

    Config = SlowBCConfig

    def __init__(self, args, info, mac):
        super().__init__(args, info, mac)
        self.optimiser = self.adam("policy", {mac: args.lr / args.slowness})


class CountingMAC(BasicMAC):
    """Counts its passes."""

    passes = 0

    def outputs(self, batch, *rest):
        CountingMAC.passes += 1
        return super().outputs(batch, *rest)


class ScaledConfig(ConservativeConfig):
    scale: Positive


class ScaledLearner(QMIXCQLLearner):
    Config = ScaledConfig


class ScaledSum(Mixer):
    """The sum of the agents' values, times a setting."""

    def __init__(self, args, info):
        super().__init__(args, info)
        self.scale = args.scale

    def weights(self, state):
        return self.scale

    def mix(self, agent_values, weights):
        return weights * agent_values.sum(dim=-1)
'''
ENVIRONMENT = "env: my_parts.game:Game\nenv_args: {length: 3, best: 2, dataset: random.h5}\n"
CLONING = "name: slow_bc\nlearner: my_parts.learning:SlowBC\nslowness: 2\n"
VALUES = """
name: scaled
learner: my_parts.learning:ScaledLearner
mac: my_parts.learning:CountingMAC
mixer: my_parts.learning:ScaledSum
scale: 0.5
test_greedy: True
mixing_embed_dim: 1
hypernet_embed: 1
td_lambda: 0
target_update_interval: 1
tau: 0.1
cql_weight: 0.1
"""
SETTINGS = [
    "t_max=20",
    "batch_size=8",
    "hidden_dim=8",
    "test_interval=10",
    "log_interval=10",
    "test_nepisode=2",
    "num_threads=1",
    "use_tensorboard=False",
    "local_results_path=results",
    "dataset_root=data",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder of the user's with a package, YAMLs and a dataset, as the current folder."""
    files = {
        "my_parts/__init__.py": "",
        "my_parts/game.py": GAME,
        "my_parts/learning.py": PARTS,
        "game.yaml": ENVIRONMENT,
        "slow_bc.yaml": CLONING,
        "scaled.yaml": VALUES,
    }
    (tmp_path / "my_parts").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    game = lookup({}, "my_parts.game:Game", "env")(length=3, best=2)
    write_h5(random_play(game), tmp_path / "random.h5")
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_parts"]:
        del sys.modules[name]


def random_play(game):
    """A dataset of 20 random episodes."""
    rng = np.random.default_rng(0)

    def observe():
        return game.get_state(), game.get_obs(), game.get_avail_actions()

    def step():
        actions = rng.integers(game.n_actions, size=game.n_agents)
        _, reward, terminated, truncated, _ = game.step(actions)
        return actions, reward, terminated, truncated

    episodes = []
    for _ in range(20):
        game.reset()
        episodes.append(record_episode(observe, step))
    about = {"environment": "game", "env_args": {}, "behaviour": "random", "command": "pytest"}
    return from_episodes(episodes, about, "random play")


def run(algorithm, *settings):
    return main([f"--config={algorithm}", "--env-config=game.yaml", "with", *SETTINGS, *settings])


def newest_run(project):
    return max((project / "results").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_a_learner_and_an_environment_of_the_users_train(project, capsys):
    assert run("slow_bc.yaml") == 0, capsys.readouterr().err
    rows = metrics(newest_run(project))
    assert [row["step"] for row in rows] == ["0", "10", "20"]
    assert all(0 <= float(row["test_return_mean"]) <= 3 for row in rows)


def test_a_module_is_found_beside_the_yaml_that_names_it(project, capsys, monkeypatch, tmp_path):
    del sys.modules["my_parts"], sys.modules["my_parts.game"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    yamls = [f"--config={project}/slow_bc.yaml", f"--env-config={project}/game.yaml"]
    data = f"env_args.dataset={project}/random.h5"
    assert main([*yamls, "with", *SETTINGS, data]) == 0, capsys.readouterr().err
    assert len(list((elsewhere / "results").iterdir())) == 1
    (project / "another_module.py").touch()
    assert find_spec("another_module") is None  # the folder was searched that once only


def test_a_second_module_of_the_same_name_is_refused(project, monkeypatch):
    other = project / "other"
    (other / "my_parts").mkdir(parents=True)
    (other / "my_parts" / "__init__.py").touch()
    (other / "my_parts" / "game.py").write_text(GAME)
    monkeypatch.chdir(other)
    with pytest.raises(ConfigError, match=r"has imported my_parts from .*; start a new process"):
        lookup({}, "my_parts.game:Game", "env")
    monkeypatch.chdir(project)
    assert lookup({}, "my_parts.game:Game", "env").__module__ == "my_parts.game"


def test_a_controller_and_a_mixer_of_the_users_train_and_are_loaded_again(project, capsys):
    assert run("scaled.yaml") == 0, capsys.readouterr().err
    learning = sys.modules["my_parts.learning"]
    assert learning.CountingMAC.passes >= 40  # network and target, at 20 steps
    folder = newest_run(project)
    policy = load_policy(folder)
    assert isinstance(policy, learning.CountingMAC)
    assert run("scaled.yaml", f"checkpoint_path={folder}", "t_max=30") == 0
    assert metrics(newest_run(project))[-1]["step"] == "30"


def test_env_args_of_a_constructor_with_kwargs_may_have_any_key(project, capsys):
    assert run("slow_bc.yaml", "env_args.bset=1") == 2
    assert "no such option: {'bset': 1}" in capsys.readouterr().err
    assert run("slow_bc.yaml", "env_args.best=1") == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learner=my_prts.learning:SlowBC", "there is no module 'my_prts'; searched .*{folder}"),
        ("learner=my_parts.lerning:SlowBC", "there is no module 'my_parts.lerning'; searched"),
        ("learner=my_parts.learning:SlowCB", "there is no class 'SlowCB' in .*mean SlowBC"),
        ("mac=my_parts.game:MAC", "there is no class 'MAC' in .*game.py; it has .*Game"),
        ("env=my_parts.broken:Game", "importing my_parts.broken failed with NameError: .*line 2"),
        ("env=my_parts.script:Game", "importing my_parts.script failed with SystemExit: usage"),
        ("env=my_parts.missing:Game", "importing my_parts.missing failed with ModuleNotFoundError"),
        ("env=my_parts.game:", "must have the form package.module:Class"),
        ("env=my parts:Game", "must have the form package.module:Class"),
    ],
)
def test_what_cannot_be_imported_is_refused(project, capsys, setting, message):
    (project / "my_parts" / "broken.py").write_text("x = 1\ny = undefined\n")
    (project / "my_parts" / "script.py").write_text("raise SystemExit('usage: script FILE')\n")
    (project / "my_parts" / "missing.py").write_text("import no_such_package\n")
    assert run("slow_bc.yaml", setting) == 2
    error = capsys.readouterr().err
    assert error.startswith("ConfigError: ")
    assert setting in error
    assert re.search(message.replace("{folder}", re.escape(str(project))), error)
    assert not (project / "results").exists()


def test_names_of_a_registry_come_first():
    assert lookup({"a:b": 1}, "a:b", "env") == 1
    with pytest.raises(ConfigError, match="unknown env 'brigde'; did you mean 'bridge'"):
        lookup({"bridge": 1}, "brigde", "env")
