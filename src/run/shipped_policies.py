"""The policies of src/policies, which play built-in datasets; see `inspo.data.policy_cards`.

Those of `expert` also play `hesitant`, in which they often stand still.
"""

import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from inspo.data import policy_cards
from inspo.data.catalogue import Recorder
from inspo.data.hesitant import HESITATION, RANDOM_ACTIONS, HesitantPolicy
from inspo.data.policy_cards import HESITANT, SHIPPED, card_of, shipped_datasets
from inspo.envs import MultiAgentEnv
from inspo.envs.sc2.smax import REWARD_SCALE, SMAX
from inspo.run.checkpoint import policy_of
from inspo.run.collection import Player, record
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import RunConfig
from inspo.utils.errors import DatasetError
from inspo.utils.files import load_torch

# These determine the content. Evaluations have as many games side by side by default, so that both
# share the compiled step.
EPISODES, N_ENVS, SEED = 2000, 32, 0
log = logging.getLogger(__name__)


def recorders(args: RunConfig, env: MultiAgentEnv | None) -> dict[str, Recorder]:
    """The datasets that shipped policies can play in this game, by name."""
    card = card_of(env.map_name) if isinstance(env, SMAX) else None
    if card is None:
        return {}
    return {
        name: Recorder(
            f"{name}{SHIPPED}{_version(env, name, policies)}",
            partial(_record, name=name, policies=policies, card=card, args=args, env=env),
        )
        for name, policies in shipped_datasets(card).items()
    }


def _version(env: SMAX, name: str, policies: list[str]) -> str:
    """A hash of all that determines a dataset's episodes."""
    content = hashlib.blake2b(_weights(env).read_bytes(), digest_size=3)
    recipe = [policies, EPISODES, N_ENVS, SEED]
    if name == HESITANT:
        recipe += [HESITATION, RANDOM_ACTIONS]
    if env.reward_scale != REWARD_SCALE:
        recipe.append(env.reward_scale)
    content.update(json.dumps(recipe).encode())
    return content.hexdigest()


def _record(
    path: Path, name: str, policies: list[str], card: dict[str, Any], args: RunConfig, env: SMAX
) -> None:
    """Records a dataset; resumes an interrupted recording."""
    try:
        content = load_torch(_weights(env))
    except ValueError as error:
        raise DatasetError(f"{error}; get that file of the project again") from None
    weights = content.get("weights", {}) if isinstance(content, dict) else {}
    if lacking := [policy for policy in policies if policy not in weights]:
        problem = f"lacks {', '.join(lacking)} of its card {env.map_name}.yaml"
        raise DatasetError(f"{_weights(env)} {problem}; get both files of the project again")
    players = [player(policy, card, content, env) for policy in policies]
    if name == HESITANT:
        players = [hesitant(one) for one in players]
    log.info("Recording %d episodes of '%s' on SMAX-%s", EPISODES, name, env.map_name)
    record(path, players, args, env, EPISODES, SEED, N_ENVS)


def player(name: str, card: dict[str, Any], content: dict[str, Any], env: SMAX) -> Player:
    """The policy of that name, which plays with sampled actions."""
    weights = {key: value.float() for key, value in content["weights"][name].items()}
    checkpoint = {
        "config": content["config"],
        "env_info": env.get_env_info(),
        "learner": {"modules": {"mac": weights}},
    }
    mac = policy_of(checkpoint, _weights(env))
    entry = card["policies"][name]
    about = {
        "policy": card["algorithm"],
        "shipped": f"{env.map_name}/{name}",
        "step": entry["step"],
        "temperature": entry["temperature"],
        "command": card["trainings"][entry["training"]],
        "greedy": False,
        "epsilon": 0.0,
        "battle_won_mean": {mode: entry[mode]["battle_won"] for mode in ("greedy", "sampled")},
    }
    return Player(lambda seed: MacPolicy(mac, seed, greedy=False), about)


def hesitant(player: Player) -> Player:
    """The same player, but its units often stand still."""
    about = {**player.about, "hesitation": HESITATION, "random_actions": RANDOM_ACTIONS}

    def play(seed: int) -> HesitantPolicy:
        return HesitantPolicy(player.policy(seed), seed + 1, HESITATION, RANDOM_ACTIONS)

    return Player(play, about)


def _weights(env: SMAX) -> Path:
    return policy_cards.POLICIES / f"{env.map_name}.pt"
