"""The base of all learners: networks, optimisers, gradient steps, saving and restoring."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch as th
from torch import Tensor, nn

from inspo.components.behaviour import Behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.utils.config import RunConfig

Stats = dict[str, float]
LEARNER_SEED = 1_000_000  # added to the run's seed, so that draws differ from the buffer's


class BaseLearner(ABC):
    """Improves policies from batches of a buffer.

    A subclass puts its networks into `modules`, makes its optimisers with `adam`, and implements
    `train`. `modules` and `optimisers` are what is saved.
    """

    Config: type[RunConfig] = RunConfig  # the settings that the learner reads
    # Names of the models whose outputs batches must carry, see components.behaviour.
    behaviour_models: tuple[str, ...] = ()
    behaviour: Behaviour  # these models, set before training if there are any

    def __init__(self, args: RunConfig, info: EnvInfo, mac: BasicMAC):
        self.args = args
        self.info = info
        self.mac = mac
        self.device = mac.device
        self.modules: dict[str, nn.Module] = {"mac": mac}
        self.optimisers: dict[str, th.optim.Optimizer] = {}
        self.generator = th.Generator(self.device).manual_seed(args.seed + LEARNER_SEED)
        self.updates = 0  # gradient steps taken with each agent's networks
        self.steps_per_round = 1  # how much one call of `train` adds to `updates`

    @abstractmethod
    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One round of updates: draws batches, takes gradient steps, increases `updates`.

        Args:
            with_stats: whether to return metrics. Reading them from a GPU takes time.

        Returns:
            metrics by name; empty without `with_stats`.
        """

    def warm_start(self, behaviour: BasicMAC) -> None:
        """Starts from the cloned behaviour. For learners with `behaviour_models`."""
        self.mac.load_state_dict(behaviour.state_dict())

    def adam(self, name: str, rates: Mapping[nn.Module, float]) -> th.optim.Optimizer:
        """Makes an Adam optimiser, which is saved under `name`.

        Args:
            rates: the modules to train, each with its learning rate.
        """
        groups = [
            {"params": [*module.parameters()], "lr": rate, "initial_lr": rate}
            for module, rate in rates.items()
        ]
        self.optimisers[name] = th.optim.Adam(groups, fused=True)
        return self.optimisers[name]

    def step(self, optimiser: th.optim.Optimizer, loss: Tensor) -> None:
        """One gradient step.

        Learning rates decay over `lr_decay_steps`. The gradient norm of each module is clipped to
        `grad_norm_clip`.
        """
        decay_steps = self.args.lr_decay_steps
        for group in optimiser.param_groups:
            if decay_steps:
                group["lr"] = group["initial_lr"] * max(1 - self.updates / decay_steps, 0.0)
            for parameter in group["params"]:
                parameter.grad = None
        loss.backward()
        if self.args.grad_norm_clip:
            for group in optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.args.grad_norm_clip)
        optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """All that training depends on: networks, targets, optimisers, counter, random state."""
        modules = {name: module.state_dict() for name, module in self.modules.items()}
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {
            "modules": modules,
            "optimisers": optimisers,
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from `state_dict`."""
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.generator.set_state(state["generator"].cpu())
        self.updates = state["updates"]


def to_floats(stats: Mapping[str, Tensor]) -> Stats:
    """Reads scalar metrics from the device."""
    return {name: value.item() for name, value in stats.items()}


def parameters_of(*networks: Iterable[nn.Module]) -> list[list[Tensor]]:
    """The parameters of each agent's networks, collected once: one list per agent.

    Args:
        networks: of one kind each, as the agents' policies and their critics.
    """
    groups = zip(*networks, strict=True)
    return [[p for network in group for p in network.parameters()] for group in groups]


def per_agent(stats: dict[str, Tensor], agents: Iterable[int]) -> Stats:
    """Metrics `NAME/agent_I` from one number for each of `agents`, [N']."""
    return {
        f"{name}/agent_{agent}": values[place].item()
        for name, values in stats.items()
        for place, agent in enumerate(agents)
    }
