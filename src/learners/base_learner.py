"""The base of all learners: networks, optimisers, gradient steps, saving and restoring."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch as th
from torch import Tensor, nn

from inspo.components.behaviour import Behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.components.replay_buffer import ReplayBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.utils import cuda_graphs
from inspo.utils.batch import Batch
from inspo.utils.config import RunConfig

Stats = dict[str, float]
LEARNER_SEED = 1_000_000  # added to the run's seed, so that draws differ from the buffer's
Network = TypeVar("Network", bound=nn.Module)
log = logging.getLogger(__name__)


class BaseLearner(ABC):
    """Improves policies from batches of a buffer.

    A subclass puts its networks into `modules`, makes its optimisers with `adam`, and implements
    `train`. `modules` and `optimisers` are what is saved. `train` draws on the host, and passes
    what the device computes to `compute`.
    """

    Config: type[RunConfig] = RunConfig  # the settings that the learner reads
    # Names of the models whose outputs batches must carry, see components.behaviour.
    behaviour_models: tuple[str, ...] = ()
    behaviour: Behaviour  # these models, set before training if there are any
    replayable = True  # whether `train` uses `compute`

    def __init__(self, args: RunConfig, info: EnvInfo, mac: BasicMAC):
        self.args = args
        self.info = info
        self.mac = mac
        self.device = mac.device
        self.modules: dict[str, nn.Module] = {"mac": mac}
        self.optimisers: dict[str, th.optim.Optimizer] = {}
        self.generator = th.Generator(self.device).manual_seed(args.seed + LEARNER_SEED)
        self.generators = [self.generator]
        # For what the host must know, such as whose turn it is: it does not wait for a GPU's draws.
        self.host_generator = self.generator
        if self.device.type != "cpu":
            self.host_generator = th.Generator().manual_seed(args.seed + LEARNER_SEED)
            self.generators.append(self.host_generator)
        self.graphs = self._make_graphs() if args.use_cuda_graphs else None
        self.updates = 0
        self.rates_of: int | None = None  # the number of updates that graphs' rates are of
        self.steps_per_round = 1  # how much one call of `train` adds to `updates`

    @property
    def updates(self) -> int:
        """Gradient steps taken with each agent's networks.

        Raises:
            RuntimeError: a CUDA graph is being recorded, which would keep the number. So the step
                is not replayed.
        """
        if self.graphs is not None and self.graphs.recording:
            raise RuntimeError("a step depends on `updates`, which is not an argument of it")
        return self._updates

    @updates.setter
    def updates(self, count: int) -> None:
        self._updates = count

    @abstractmethod
    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One round of updates: draws batches, takes gradient steps, increases `updates`.

        Args:
            with_stats: whether to return metrics. Reading them from a GPU takes time.

        Returns:
            metrics by name; empty without `with_stats`.
        """

    def sample(self, buffer: OfflineBuffer | ReplayBuffer) -> Batch:
        """A batch of `batch_size`."""
        if self.graphs is None:
            return buffer.sample(self.args.batch_size)
        return buffer.sample(self.args.batch_size, few_lengths=True)

    def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, on a GPU replayed as a CUDA graph.

        Args:
            function: a method that computes on the device alone. It must not read from the device,
                nor from `self` what changes between rounds.
            args: tensors, numbers and bools, also in dicts and lists. A float may reach the
                function as a tensor. Each value of an integer or a bool has a graph of its own.
        """
        if self.graphs is None:
            return function(*args)
        if self.rates_of != self.updates:  # once a round: each rate is a launch
            for optimiser in self.optimisers.values():
                self._set_rates(optimiser)
            self.rates_of = self.updates
        return self.graphs.run(function, *args)

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
        self._ready_for_graphs(self.optimisers[name])
        return self.optimisers[name]

    def step(self, optimiser: th.optim.Optimizer, loss: Tensor) -> None:
        """One gradient step.

        Learning rates decay over `lr_decay_steps`. The gradient norm of each module is clipped to
        `grad_norm_clip`.
        """
        self.step_all([optimiser], loss)

    def step_all(self, optimisers: Sequence[th.optim.Optimizer], loss: Tensor) -> None:
        """A step of each of several optimisers, from one backward pass; see `step`."""
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        if self.graphs is None or not self.graphs.recording:  # `compute` has set the rates
            for optimiser in optimisers:
                self._set_rates(optimiser)
        for group in groups:
            for parameter in group["params"]:
                parameter.grad = None
        loss.backward()
        if self.args.grad_norm_clip:
            for group in groups:
                nn.utils.clip_grad_norm_(group["params"], self.args.grad_norm_clip)
        for optimiser in optimisers:
            optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """All that training depends on: networks, targets, optimisers, counter, random state."""
        modules = {name: module.state_dict() for name, module in self.modules.items()}
        return {
            "modules": modules,
            "optimisers": {name: adam_state(one) for name, one in self.optimisers.items()},
            "generator": th.cat([generator.get_state() for generator in self.generators]),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from `state_dict`. Random draws do not continue on another kind of device."""
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
            self._ready_for_graphs(optimiser)
        if self.graphs is not None:
            self.graphs.forget()
            self.rates_of = None
        self.updates = state["updates"]
        self._load_random_states(state["generator"].cpu())

    def _make_graphs(self) -> cuda_graphs.CUDAGraphs | None:
        if not self.replayable:
            log.warning("use_cuda_graphs=True has no effect on %s", self.args.name)
        elif not cuda_graphs.available(self.device):
            log.warning("use_cuda_graphs=True has no effect without an NVIDIA GPU")
        else:
            return cuda_graphs.CUDAGraphs([self.generator])
        return None

    def _set_rates(self, optimiser: th.optim.Optimizer) -> None:
        """Lets the learning rates decay over `lr_decay_steps`."""
        decay_steps = self.args.lr_decay_steps
        if not decay_steps:
            return
        for group in optimiser.param_groups:
            rate = group["initial_lr"] * max(1 - self.updates / decay_steps, 0.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _ready_for_graphs(self, optimiser: th.optim.Optimizer) -> None:
        """A CUDA graph reads learning rates from the GPU."""
        if self.graphs is not None:
            for group in optimiser.param_groups:
                rate = th.full((), group["lr"], device=self.device)
                group.update(lr=rate, capturable=True)

    def _load_random_states(self, states: Tensor) -> None:
        """Sets the generators, or seeds them anew if the states are of another kind of device."""
        sizes = [generator.get_state().numel() for generator in self.generators]
        if states.numel() == sum(sizes):
            for generator, state in zip(self.generators, states.split(sizes), strict=True):
                generator.set_state(state.clone())
            return
        log.warning(
            "The checkpoint was written on another kind of device than %s: random draws start "
            "anew, and resuming is not bit-exact",
            self.device.type,
        )
        for generator in self.generators:
            generator.manual_seed(self.args.seed + LEARNER_SEED + self.updates)


def target_of(network: Network, device: th.device) -> Network:
    """A copy that is not trained.

    `to` joins the weights of copied GRUs in one piece of memory again, which cuDNN needs.
    """
    return deepcopy(network).requires_grad_(False).to(device)


def adam_state(optimiser: th.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state as on a CPU, so that a run can go on on the other kind of device."""
    state = optimiser.state_dict()
    for group in state["param_groups"]:
        group.update(lr=float(group["lr"]), capturable=False)
    return state


def to_floats(stats: Mapping[str, Tensor | float]) -> Stats:
    """Reads scalar metrics from the device, all at once."""
    scalars = {name: value for name, value in stats.items() if isinstance(value, Tensor)}
    read = th.stack([*scalars.values()]).tolist() if scalars else []
    return {**stats, **dict(zip(scalars, read, strict=True))}


def parameters_of(*networks: Iterable[nn.Module]) -> list[list[Tensor]]:
    """The parameters of each agent's networks, collected once: one list per agent.

    Args:
        networks: of one kind each, as the agents' policies and their critics.
    """
    groups = zip(*networks, strict=True)
    return [[p for network in group for p in network.parameters()] for group in groups]


def per_agent(stats: Mapping[str, Tensor], agents: Iterable[int]) -> dict[str, Tensor]:
    """Metrics `NAME/agent_I` from one number for each of `agents`, [N'], agent after agent."""
    rows = {name: values.unbind() for name, values in stats.items()}
    return {
        f"{name}/agent_{agent}": values[place]
        for place, agent in enumerate(agents)
        for name, values in rows.items()
    }
