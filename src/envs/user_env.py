"""Environment classes of users, found as `package.module:Class`: PyMARL's, or this project's."""

import inspect
import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from inspo.envs.checked_vector_env import CheckedVectorEnv
from inspo.envs.contract import (
    Contract,
    Problem,
    as_floats,
    as_switches,
    described,
    made,
    raised,
)
from inspo.envs.external_env import ExternalEnv, Outcome, close_quietly, given_limit
from inspo.envs.multiagentenv import EnvInfo, MultiAgentEnv, VectorEnv
from inspo.envs.seeding import Seeder
from inspo.utils.errors import EnvContractError

# Settings that every class may have: the contract uses them if the constructor does not.
ADDED_ARGS = ("episode_limit", "reward_scalarisation")
# Of each size: PyMARL's method, where the attribute or the key of `get_env_info` is missing.
SIZES = {
    "n_agents": "",
    "n_actions": "get_total_actions",
    "obs_shape": "get_obs_size",
    "state_shape": "get_state_size",
    "episode_limit": "",
}
LIMIT_KEYS = ("episode_limit", "TimeLimit.truncated")  # of an info: the time limit ended it
MAX_SIZE = 2**31  # of what is counted
log = logging.getLogger(__name__)


class UserEnvClass:
    """The constructor of a user's environment class, for `env: package.module:Class`.

    Its signature is the class's, with `episode_limit` and `reward_scalarisation` where they are
    missing.
    """

    def __init__(self, name: str, cls: type):
        self.name, self.cls = name, cls
        own = list(inspect.signature(cls).parameters.values())
        self.parameters = {parameter.name for parameter in own}
        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(name, keyword) for name in ADDED_ARGS if name not in self.parameters
        ]
        with_kwargs = bool(own) and own[-1].kind == inspect.Parameter.VAR_KEYWORD
        position = len(own) - with_kwargs
        self.__signature__ = inspect.Signature([*own[:position], *added, *own[position:]])

    def __call__(self, **env_args: Any) -> MultiAgentEnv:
        """Makes the environment, starts an episode, and checks what it returns.

        Raises:
            EnvContractError: it breaks the contract.
            TypeError, ValueError: a setting is wrong.
        """
        env = made(self.name, UserEnv, self, env_args)
        if env.seeder.uses_global:
            log.info(
                "%s.reset takes no seed: NumPy's and Python's global random generators are seeded "
                "for each episode instead",
                self.name,
            )
        env.try_out()
        return env

    def construct(self, env_args: Mapping[str, Any]) -> Any:
        """An object of the class."""
        taken = {
            name: value
            for name, value in env_args.items()
            if name in self.parameters or name not in ADDED_ARGS
        }
        try:
            return self.cls(**taken)
        except KeyError as error:
            if error.args == ("env_args",):  # some forks of PyMARL pass them so
                return self.cls(env_args=dict(env_args))
            raise EnvContractError(f"environment {self.name}: __init__ {raised(error)}") from error


class UserEnv(ExternalEnv):
    """An environment of a user's class: checked, converted and seeded."""

    def __init__(self, make: UserEnvClass, env_args: dict[str, Any], env: Any = None):
        self.make, self.env_args = make, env_args
        self.contract = Contract(make.name, env_args.get("reward_scalarisation", "mean"))
        self.env = make.construct(env_args) if env is None else env
        _check_interface(self.env, make.name)
        sizes = _sizes(self.env, make.name)
        self.n_agents, self.n_actions = sizes["n_agents"], sizes["n_actions"]
        self.obs_shape, self.state_shape = sizes["obs_shape"], sizes["state_shape"]
        limit = env_args.get("episode_limit")
        self.episode_limit = given_limit(limit, sizes["episode_limit"], make.name)
        self.info = EnvInfo(**self.get_env_info())
        self.seeder = Seeder(self.env)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the environment's own."""
        if name == "env" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def another(self, number: int) -> "UserEnv":
        """A copy of this project's environments; of others, and without a copy, a new object.

        Args:
            number: is added to `env_args.seed` of environments that take no other seed.
        """
        if isinstance(self.env, MultiAgentEnv):
            try:
                return UserEnv(self.make, self.env_args, deepcopy(self.env))
            except Exception as error:  # noqa: BLE001 - whatever the copy of some part raises
                log.debug("%s cannot be copied: %s", self.contract.name, error)
        env_args = dict(self.env_args)
        if self.seeder.uses_global and isinstance(env_args.get("seed"), int):
            env_args["seed"] += number
        return UserEnv(self.make, env_args)

    def make_batch(self, n_envs: int) -> VectorEnv:
        """Games side by side; the environment's own vector environment if it has one."""
        own = isinstance(self.env, MultiAgentEnv) and type(self.env).make_batch
        if own and own is not MultiAgentEnv.make_batch:
            batch = self.contract.ask("make_batch()", self.env.make_batch, n_envs)
            if not hasattr(batch, "n_envs"):
                text = f"returned {described(batch)}, no vector environment"
                self.contract.raise_problem(Problem("make_batch()", text))
            return CheckedVectorEnv(batch, self.contract, self.info)
        return super().make_batch(n_envs)

    def try_out(self) -> None:
        """Starts an episode and looks at everything once."""
        self.reset(0)
        self.get_state()
        self.get_avail_actions()

    def start(self, seed: int | None) -> None:
        self.seeder.reset(seed)

    def play(self, actions: np.ndarray) -> Outcome:
        answer = self.seeder.call(self.env.step, actions)
        reward, ended, cut, info = self._parts(answer)
        terminated, truncated = self.contract.ends(ended, cut, self.n_agents)
        if any(self._flag_in(info, key) for key in LIMIT_KEYS):
            terminated, truncated = False, True
        about = {}
        if "battle_won" in info:
            about["battle_won"] = self._flag_in(info, "battle_won")
        return self.contract.reward(reward, self.n_agents), terminated, truncated, about

    def see_obs(self) -> np.ndarray:
        observations = self.seeder.call(self.env.get_obs)
        return self.contract.observations(observations, self.info, "get_obs()")

    def see_state(self) -> np.ndarray:
        if not hasattr(self.env, "get_state"):
            return self.get_obs().ravel()
        state = self.seeder.call(self.env.get_state)
        return self.contract.numbers(state, self.state_shape, "get_state()")

    def see_available(self, terminated: bool) -> np.ndarray:
        if hasattr(self.env, "get_avail_actions"):
            masks = self.env.get_avail_actions()
        elif hasattr(self.env, "get_avail_agent_actions"):
            masks = [self.env.get_avail_agent_actions(i) for i in range(self.n_agents)]
        else:
            return np.ones((self.n_agents, self.n_actions), dtype=bool)
        return self.contract.masks(masks, self.info, "get_avail_actions()", over=terminated)

    def provenance(self) -> dict[str, str]:
        own = getattr(self.env, "provenance", None)
        return own() if callable(own) else {}

    def close(self) -> None:
        close_quietly(self.env, self.make.name)

    def _parts(self, answer: Any) -> tuple[Any, Any, Any, Mapping[str, Any]]:
        """Reward, terminated, truncated and info of what `step` returned.

        Three values are PyMARL's (reward, terminated, info), five are EPyMARL's and Gymnasium's.
        Four are Gym's old (observations, reward, done, info), or the five without observations.
        """
        parts = list(answer) if isinstance(answer, (tuple, list)) else []
        if len(parts) == 3:
            parts.insert(2, False)
        elif len(parts) == 4 and not _are_flags(*parts[1:3]):
            parts = [*parts[1:3], False, parts[3]]
        elif len(parts) == 5:
            parts = parts[1:]
        if len(parts) == 4 and parts[3] is None:
            parts[3] = {}
        if len(parts) == 4 and isinstance(parts[3], Mapping):
            return parts[0], parts[1], parts[2], parts[3]
        found = described(answer)
        if isinstance(answer, tuple):
            found = f"({', '.join(described(part) for part in answer)})"
        self.contract.fail(
            "step()",
            f"returned {found}; expected (reward, terminated, info) or "
            "(observations, reward, terminated, truncated, info), with a dict as info",
        )
        return 0.0, False, False, {}

    def _flag_in(self, info: Mapping[str, Any], key: str) -> bool:
        """The flag `key` of an info; False if it is not there."""
        value = info.get(key, False)
        flag = as_switches(value)
        if flag is None or flag.size != 1:
            self.contract.fail("step()", f"info['{key}'] is {described(value)}, not a flag")
            return False
        return bool(flag.reshape(()))


def _are_flags(*values: Any) -> bool:
    """Whether these are booleans, or lists, arrays or dicts of them."""
    for value in values:
        entries = list(value.values()) if isinstance(value, Mapping) else value
        flags = as_switches(entries)
        if flags is None or np.asarray(entries).dtype.kind != "b":
            return False
    return True


def _check_interface(env: Any, name: str) -> None:
    missing = [method for method in ("reset", "step", "get_obs") if not hasattr(env, method)]
    if not missing:
        return
    text = f"there is no method {' and no '.join(missing)}"
    for kind, attribute in (("pettingzoo", "possible_agents"), ("gymnasium", "action_space")):
        if hasattr(env, attribute):
            text += f"; set env: {kind} and env_args.key: {name}"
            break
    raise EnvContractError(f"environment {name}: {text}")


def _sizes(env: Any, name: str) -> dict[str, int | None]:
    """The sizes, from `get_env_info`, attributes and PyMARL's methods. None: no time limit.

    Raises:
        EnvContractError: lists what is missing or is no size.
    """
    told = _called(env, "get_env_info")
    told = told if isinstance(told, Mapping) else {}
    sizes: dict[str, int | None] = {}
    problems = []
    for size, method in SIZES.items():
        value = told.get(size, getattr(env, size, None))
        if value is None:
            value = _called(env, method)
        sizes[size] = _size(value)
        is_limit = size == "episode_limit"
        if sizes[size] is None and not is_limit:
            problems.append(f"{size} is missing" if value is None else f"{size} is {value!r}")
    if not hasattr(env, "get_state") and not problems[:-1]:
        # Without a state of its own, all observations are the state.
        problems = [problem for problem in problems if not problem.startswith("state_shape")]
        if not problems:
            sizes["state_shape"] = sizes["n_agents"] * sizes["obs_shape"]
    if problems:
        needed = "get_env_info() must return these sizes, or attributes hold them"
        raise EnvContractError(f"environment {name}: {', '.join(problems)}; {needed}")
    return sizes


def _called(env: Any, method: str) -> Any:
    """What a method returns; None if there is none or it cannot tell."""
    function = getattr(env, method, None) if method else None
    if not callable(function):
        return None
    try:
        return function()
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _size(value: Any) -> int | None:
    """A positive whole number, or the product of a shape; None if it is neither."""
    parts = value if isinstance(value, (tuple, list)) else [value]
    numbers = as_floats(parts, np.float64)
    if numbers is None or not numbers.size:
        return None
    whole = (numbers == np.rint(numbers)) & (numbers > 0) & (numbers < MAX_SIZE)
    return int(numbers.prod()) if whole.all() else None
