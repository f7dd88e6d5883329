"""Who plays in a film: the policies of a run or checkpoint file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspo.controllers import BasicMAC
from inspo.envs import NOT_THE_GAME, MultiAgentEnv
from inspo.run.checkpoint import check_fits, policy_of
from inspo.run.session import make_env
from inspo.run.settings import settings_from
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import RunConfig
from inspo.utils.names import TITLES

MOST_LETTERS = 24  # of a dataset's name that fit below a title


@dataclass(frozen=True)
class FilmedPlayer:
    """Trained policies, and what a film says about them."""

    mac: BasicMAC
    args: RunConfig
    env: MultiAgentEnv
    greedy: bool
    title: str
    subtitle: str

    def policy(self, seed: int) -> MacPolicy:
        """The policies, ready for an episode whose actions are drawn from `seed`."""
        return MacPolicy(self.mac, seed, self.greedy)

    def game(self) -> dict[str, Any]:
        """What is played: two players can be shown side by side if this is equal."""
        settings = self.args.env_args.items()
        return {
            "env": self.args.env,
            **{key: value for key, value in settings if key not in NOT_THE_GAME},
        }


def make_player(
    file: Path, content: dict[str, Any], greedy: bool | None = None, **env_args: Any
) -> FilmedPlayer:
    """The player of a checkpoint.

    Args:
        file, content: what `open_checkpoint` returned.
        greedy: take the likeliest (or most valued) actions; None: as the run was evaluated.
        env_args: settings of the environment over those of the run.

    Raises:
        CheckpointError: the policies do not fit the environment.
        SimulatorError: the run's game cannot be started here.
    """
    args = settings_from(content["config"], {"env_args": env_args})
    env = make_env(args)
    check_fits(content, file, args, env.get_env_info(), fingerprint=None)
    greedy = args.test_greedy if greedy is None else greedy
    return FilmedPlayer(policy_of(content, file), args, env, greedy, *describe(content))


def describe(content: dict[str, Any]) -> tuple[str, str]:
    """Title and subtitle of a checkpoint's player: algorithm, game, dataset and step."""
    config, step = content["config"], content["step"]
    env_args = config["env_args"]
    title = TITLES.get(config["name"], config["name"])
    parts = [str(env_args.get("map_name") or config["env_config"].removesuffix("_offline"))]
    dataset = Path(env_args.get("dataset") or "").name.removesuffix(".h5")
    if dataset:
        too_long = len(dataset) > MOST_LETTERS
        parts.append(f"dataset {dataset[:MOST_LETTERS]}{'…' if too_long else ''}")
    if step == 0 and config.get("init_from_behaviour"):
        # Before its first step, such a run plays as the clone that it starts from.
        parts.append(f"{title} at step 0")
        title = "Behaviour cloning"
    else:
        parts.append(f"step {step:,}")
    return title, ", ".join(parts)
