"""What every learner has: modules, optimisers, and one way to save, restore and step them."""

from abc import ABC, abstractmethod
from typing import Any

import torch as th
from torch import Tensor, nn

from inspo.components.behaviour import Behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.utils.config import RunConfig

Stats = dict[str, float]
LEARNER_SEED = 1_000_000  # added to the run's, so that its draws are not those of the buffer again


class BaseLearner(ABC):
    """Turns batches of the buffer into better policies.

    A subclass lists its networks in `modules`, builds its optimisers with `adam`, and implements `train`.
    """

    Config: type[RunConfig] = RunConfig  # the settings it reads
    behaviour_models: tuple[
        str, ...
    ] = ()  # whose outputs its batches must carry, see components.behaviour
    behaviour: Behaviour  # those models, set before training if there are any

    def __init__(self, args: RunConfig, info: EnvInfo, mac: BasicMAC):
        self.args, self.info, self.mac = args, info, mac
        self.device = mac.device
        self.modules: dict[str, nn.Module] = {"mac": mac}
        self.optimisers: dict[str, th.optim.Optimizer] = {}
        self.generator = th.Generator(self.device).manual_seed(args.seed + LEARNER_SEED)
        self.updates = 0  # gradient steps that each agent's networks have had
        self.steps_per_round = 1  # by how many one call of `train` advances `updates`

    @abstractmethod
    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One round of updates: draws its batches, advances `updates`.

        Returns:
            Metrics by name if `with_stats`, else nothing: reading them off a GPU costs time.
        """

    def warm_start(self, behaviour: BasicMAC) -> None:
        """Starts from the cloned behaviour. For learners whose `behaviour_models` is not empty."""
        self.mac.load_state_dict(behaviour.state_dict())

    def adam(self, name: str, rates: dict[nn.Module, float]) -> th.optim.Optimizer:
        """An Adam optimiser for modules with a learning rate each. It is saved with the learner under `name`."""
        groups = [
            {"params": [*module.parameters()], "lr": rate, "initial_lr": rate}
            for module, rate in rates.items()
        ]
        self.optimisers[name] = th.optim.Adam(groups, fused=True)
        return self.optimisers[name]

    def step(self, optimiser: th.optim.Optimizer, loss: Tensor) -> None:
        """One gradient step, rates decayed, the norm of each module's gradient clipped to `grad_norm_clip`."""
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
        """Everything that training depends on: networks, targets, optimisers, counters, random state."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": {
                name: optimiser.state_dict() for name, optimiser in self.optimisers.items()
            },
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where `state_dict` stood."""
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.generator.set_state(state["generator"].cpu())
        self.updates = state["updates"]
