"""The contract of environments: what their methods may return, and how it is converted.

Environments of other projects return lists, tuples, dicts, float64 and masks of 0 and 1. All of it
is converted without loss. Anything else is an error that names environment, method, step and agent.

Shapes: N agents, A actions, O numbers per observation, S numbers per state.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from inspo.envs.multiagentenv import EnvInfo
from inspo.utils.errors import EnvContractError, UserError, out_of_memory
from inspo.utils.files import SOURCE

LONGEST_SHOWN = 60  # characters of a value in a message
LONGEST_ERROR = 200  # characters of what an environment's code raised
SHARED_BY = ("mean", "sum")  # how the agents' rewards become the team's


class Problem(NamedTuple):
    """One thing that an environment did wrong."""

    method: str
    text: str
    agent: Any = None  # number or name
    moment: str = ""  # step and seed of the episode

    def __str__(self) -> str:
        agent = "" if self.agent is None else f" for agent {self.agent}"
        moment = f" ({self.moment})" if self.moment else ""
        return f"{self.method}{agent}{moment}: {self.text}"


class EnvCodeError(EnvContractError):
    """The environment's own code raised an error."""

    def __init__(self, name: str, problem: Problem):
        super().__init__(f"environment {name}: {problem}")
        self.problem = problem


class Contract:
    """Checks and converts what an environment returns. After a problem, a neutral value stands in.

    Args:
        name: of the environment, for messages.
        reward_scalarisation: `mean` or `sum`: how rewards per agent become one.

    Attributes:
        report: called with each `Problem`. By default it raises EnvContractError.
        seed, step: where the current episode stands; owned by the environment.
    """

    def __init__(self, name: str, reward_scalarisation: str = "mean"):
        self.name = name
        self.reward_scalarisation = reward_scalarisation
        self.report: Callable[[Problem], None] = self.raise_problem
        self.seed: int | None = None
        self.step = 0
        self.agents: list[Any] = []  # the keys of dicts, in order
        if reward_scalarisation not in SHARED_BY:
            raise ValueError(
                f"env_args.reward_scalarisation is {reward_scalarisation!r}; it must be mean or sum"
            )

    def raise_problem(self, problem: Problem) -> None:
        """Raises EnvContractError."""
        raise EnvContractError(f"environment {self.name}: {problem}")

    def fail(self, method: str, text: str, agent: Any = None) -> None:
        """Reports a problem of the current step."""
        self.report(Problem(method, text, agent, self._moment()))

    def ask(self, method: str, function: Callable, *arguments: Any) -> Any:
        """What the environment's own code answers.

        Raises:
            EnvCodeError: it raised an error, or called `exit`. Says which and where.
        """
        try:
            return function(*arguments)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            if out_of_memory(error):
                raise
            problem = Problem(method, raised(error), moment=self._moment())
            raise EnvCodeError(self.name, problem) from error

    def _moment(self) -> str:
        if self.seed is None:
            return ""
        return f"step {self.step} of the episode with seed {self.seed}"

    def numbers(self, value: Any, size: int, method: str, agent: Any = None) -> np.ndarray:
        """Finite numbers as float32 [size]. Arrays of more axes are flattened."""
        array = as_floats(value)
        if array is None:
            self.fail(method, f"returned {described(value)} instead of numbers", agent)
        elif array.size != size:
            expected = f"expected {size} numbers"
            self.fail(method, f"returned {described(value)}; {expected}", agent)
        elif not np.isfinite(array).all():
            self.fail(method, "returned NaN, infinity or a number beyond float32", agent)
        else:
            return array.reshape(size)
        return np.zeros(size, dtype=np.float32)

    def observations(self, value: Any, info: EnvInfo, method: str) -> np.ndarray:
        """One observation for each agent, float32 [N, O]."""
        size = info.obs_shape
        rows = self.of_agents(value, info.n_agents, method, "observation")
        if rows is None:
            return np.zeros((info.n_agents, size), dtype=np.float32)
        return np.stack([self.numbers(row, size, method, agent) for agent, row in enumerate(rows)])

    def masks(self, value: Any, info: EnvInfo, method: str, over: bool = False) -> np.ndarray:
        """Which actions are available, bool [N, A].

        Args:
            over: the episode has terminated. No agent needs an action, so that none may be left.
        """
        rows = self.of_agents(value, info.n_agents, method, "mask")
        if rows is None:
            return np.ones((info.n_agents, info.n_actions), dtype=bool)
        masks = [self.mask(row, info.n_actions, method, i, over) for i, row in enumerate(rows)]
        return np.stack(masks)

    def mask(
        self, value: Any, n_actions: int, method: str, agent: Any, over: bool = False
    ) -> np.ndarray:
        """Which actions are available to one agent, bool [A], from 0 and 1."""
        mask = as_switches(value)
        everything = np.ones(n_actions, dtype=bool)
        if mask is None:
            self.fail(method, f"returned {described(value)}; a mask holds only 0 and 1", agent)
            return everything
        if mask.shape != (n_actions,):
            text = f"returned a mask of shape {mask.shape}; expected {n_actions} entries"
            self.fail(method, text, agent)
            return everything
        if mask.any():
            return mask
        if not over:
            self.fail(method, "no action is available", agent)
        return np.arange(n_actions) == 0

    def of_agents(self, value: Any, n_agents: int, method: str, what: str) -> list | None:
        """The entries of a list, tuple, array or dict with one entry for each agent."""
        found = self._in_order(value, n_agents) if isinstance(value, Mapping) else value
        if not isinstance(found, (list, tuple)):
            array = _as_array(found)
            found = list(array) if array is not None and array.ndim else None
        if found is not None and len(found) == n_agents:
            return list(found)
        text = f"returned {described(value)}; expected one {what} for each of {n_agents} agents"
        self.fail(method, text)
        return None

    def _in_order(self, by_agent: Mapping, n_agents: int) -> list | None:
        """The entries of a dict by agent; None if agents are missing, or others than before."""
        if len(by_agent) != n_agents:
            return None
        self.agents = self.agents or list(by_agent)  # the first dict decides on the order
        if set(by_agent) != set(self.agents):
            return None
        return [by_agent[agent] for agent in self.agents]

    def reward(self, value: Any, n_agents: int) -> float:
        """The team's reward: a number, or one number for each agent, which are shared."""
        found = self._in_order(value, n_agents) if isinstance(value, Mapping) else value
        array = as_floats(found, np.float64)
        if array is None or array.size not in (1, n_agents):
            expected = f"expected a number or {n_agents}"
            self.fail("step()", f"the reward is {described(value)}; {expected}")
            return 0.0
        team = array.size == 1
        reward = float(array.reshape(())) if team else self.shared(array.ravel())
        if not abs(reward) <= float(np.finfo(np.float32).max):
            self.fail("step()", f"the reward is {reward}, not a finite float32")
            return 0.0
        return reward

    def shared(self, rewards: Sequence[float]) -> float:
        """One reward from those of the agents; 0 if there are none."""
        if len(rewards) == 0:
            return 0.0
        return float(np.sum(rewards) if self.reward_scalarisation == "sum" else np.mean(rewards))

    def flags(self, value: Any, n_agents: int, which: str) -> np.ndarray:
        """The flags of all agents, bool [N], from one flag or one for each agent."""
        found = value
        if isinstance(value, Mapping):  # RLlib has a flag of the team
            found = value["__all__"] if "__all__" in value else self._in_order(value, n_agents)
        flags = as_switches(found)
        if flags is not None and flags.size in (1, n_agents):
            return np.broadcast_to(flags.ravel(), n_agents)
        text = (
            f"{which} is {described(value)}; expected a flag or one for each of {n_agents} agents"
        )
        self.fail("step()", text)
        return np.zeros(n_agents, dtype=bool)

    def ends(self, terminated: Any, truncated: Any, n_agents: int) -> tuple[bool, bool]:
        """Whether the episode is over, and how, from the flags of the team or of its agents.

        The episode is over when every agent has ended. It terminated if all of them terminated,
        and was truncated otherwise.
        """
        ended = self.flags(terminated, n_agents, "terminated")
        cut = self.flags(truncated, n_agents, "truncated")
        over, all_terminated = bool((ended | cut).all()), bool(ended.all())
        return all_terminated, over and not all_terminated


def raised(error: BaseException) -> str:
    """What an environment's code raised, and where: if possible, in a file of the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    line = (_of_user(frames) or frames)[-1]
    place = f"{line.filename}, line {line.lineno}"
    text = " ".join(str(error).split())[:LONGEST_ERROR]
    return f"raised {type(error).__name__}: {text} ({place})"


def _of_user(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    others = ("site-packages", "<frozen", str(SOURCE))
    return [frame for frame in frames if not any(place in frame.filename for place in others)]


def made(name: str, construct: Callable, *arguments: Any) -> Any:
    """What an environment's constructor makes.

    Raises:
        EnvContractError: it raised an error that is not about its arguments.
        TypeError, ValueError: an argument is wrong.
    """
    try:
        return construct(*arguments)
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        about_arguments = isinstance(error, (ValueError, TypeError))
        if about_arguments and not _of_user(traceback.extract_tb(error.__traceback__)):
            raise
        text = f"environment {name}: it cannot be made: it {raised(error)}"
        raise EnvContractError(text) from error


def as_floats(value: Any, dtype: type = np.float32) -> np.ndarray | None:
    """A copy of `value` as an array of floats; None if it does not hold numbers."""
    array = _as_array(value)
    if array is None or array.dtype.kind not in "biuf":
        return None
    with np.errstate(over="ignore"):  # becomes infinity, which is reported
        return array.astype(dtype)


def as_switches(value: Any) -> np.ndarray | None:
    """A copy of `value` as an array of bool; None if it does not hold only 0 and 1."""
    array = _as_array(value)
    if array is None or array.dtype.kind not in "biuf":
        return None
    if array.dtype.kind != "b" and not ((array == 0) | (array == 1)).all():
        return None
    return array.astype(bool)


def _as_array(value: Any) -> np.ndarray | None:
    if np.ma.is_masked(value):  # NumPy would use the numbers that the mask hides
        return None
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # ragged lists; tensors with gradients
        return None


def described(value: Any) -> str:
    """A value in a few words: its type, and its shape or content."""
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape:
        dtype = getattr(value, "dtype", None)
        return f"a {kind} of shape {tuple(shape)} and dtype {dtype}"
    try:
        text = " ".join(repr(value).split())  # arrays in it take several lines
    except Exception:  # noqa: BLE001 - whatever the environment's code raises
        return f"a {kind}"
    if len(text) <= LONGEST_SHOWN and " at 0x" not in text:
        return text
    if isinstance(value, (list, tuple, dict)):
        return f"a {kind} of {len(value)} entries"
    return f"a {kind}"
