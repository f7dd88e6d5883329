"""The multi-agent controllers: all agents' policies, over whole sequences or step by step."""

from collections.abc import Mapping
from typing import NamedTuple

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.data.scaling import standardise
from inspo.envs import EnvInfo
from inspo.modules.agents import REGISTRY as AGENTS
from inspo.utils.batch import Batch
from inspo.utils.config import RunConfig, lookup
from inspo.utils.errors import ConfigError, DivergenceError
from inspo.utils.packing import packing, sequence_rows
from inspo.utils.rl_utils import draw, masked_log_softmax

ALL_AGENTS = slice(None)
DIVERGED = (
    "the policies' outputs are NaN or infinite: training diverged, or an observation is not "
    "finite; use an earlier checkpoint, or train with lower learning rates"
)


class PackedRows(NamedTuple):
    """Rows of a batch, packed for each network in turn; see `inspo.utils.packing`."""

    episodes: Tensor  # int [M]
    steps: Tensor  # int [M]
    agents: Tensor  # int [M]
    sizes: list[list[int]]  # of each network: its rows of each step

    @property
    def index(self) -> tuple[Tensor, Tensor, Tensor]:
        """Selects the rows from a tensor [B, T, N, ...]."""
        return self.episodes, self.steps, self.agents


class BasicMAC(nn.Module):
    """Policies pi^i(. | tau^i), with one network each or one for all (`share_parameters`).

    The networks' outputs are logits to learners of policies, and values Q^i(tau^i, .) to learners
    of values. Only `act` chooses actions.

    Shapes: B batch, T time, N agents, N' of them asked for, A actions, O observation, H hidden
    state, I inputs.
    """

    def __init__(self, args: RunConfig, info: EnvInfo):
        super().__init__()
        self.info = info
        self.obs_last_action = args.obs_last_action
        self.obs_agent_id = args.obs_agent_id
        input_size = info.obs_shape
        if args.obs_last_action:
            input_size += info.n_actions
        if args.obs_agent_id:
            input_size += info.n_agents
        n_networks = 1 if args.share_parameters else info.n_agents
        # Of `standardise_obs`. Not part of the weights: models of behaviour never act.
        self.register_buffer("obs_mean", None, persistent=False)
        self.register_buffer("obs_std", None, persistent=False)
        self.agent_class = lookup(AGENTS, args.agent, "agent")
        self.agents = nn.ModuleList(
            self.agent_class(input_size, args.hidden_dim, info.n_actions) for _ in range(n_networks)
        )

    @property
    def device(self) -> th.device:
        """Where the networks are."""
        return next(self.parameters()).device

    def scale_observations(self, scaling: Mapping[str, Tensor]) -> None:
        """From now on, `act` standardises what it observes. Batches are standardised already.

        Args:
            scaling: `obs_mean` and `obs_std`, [O], and others. Without these, nothing changes.
        """
        if "obs_mean" in scaling:
            self.obs_mean = scaling["obs_mean"].to(self.device)
            self.obs_std = scaling["obs_std"].to(self.device)

    def build_inputs(self, obs: Tensor, last_actions: Tensor, agents: slice = ALL_AGENTS) -> Tensor:
        """The inputs of the networks of `agents`, [B, T, N', I].

        Args:
            obs: of these agents, [B, T, N', O].
            last_actions: of these agents, [B, T, N']; -1 at an episode's first step.
        """
        inputs = [obs]
        if self.obs_last_action:
            one_hot = F.one_hot(last_actions.clamp(min=0), self.info.n_actions)
            inputs.append((one_hot * (last_actions >= 0)[..., None]).to(obs.dtype))
        if self.obs_agent_id:
            ids = th.eye(self.info.n_agents, device=obs.device, dtype=obs.dtype)[agents]
            inputs.append(ids.expand(*obs.shape[:3], -1))
        return th.cat(inputs, dim=-1) if len(inputs) > 1 else obs

    def with_inputs(self, batch: Batch) -> Batch:
        """The batch with all inputs, `policy_inputs` [B, T, N, I], for several passes."""
        return {**batch, "policy_inputs": self.build_inputs(batch["obs"], batch["last_actions"])}

    def outputs(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """The networks' outputs for `agents` at all rows of a batch, [B, T, N', A]."""
        size = self.agents[0].hidden_size
        packed = packing(batch, recurrent=size > 0)
        if "policy_inputs" in batch:
            inputs = packed.pack(batch["policy_inputs"][:, :, agents])  # [P, N', I]
        else:
            obs = packed.pack(batch["obs"][:, :, agents])
            last_actions = packed.pack(batch["last_actions"][:, :, agents])
            inputs = self.build_inputs(obs[None], last_actions[None], agents)[0]
        hidden = inputs.new_zeros(packed.sizes[0], inputs.shape[1], size)
        outputs, _ = self._unroll(inputs, packed.sizes, hidden, agents)
        return packed.unpack(outputs)

    def log_probs(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """log pi^i(. | tau^i) of `agents` at all rows of a batch, [B, T, N', A]."""
        return masked_log_softmax(self.outputs(batch, agents), batch["avail_actions"][:, :, agents])

    def pack(self, lengths: Tensor) -> PackedRows:
        """The rows that the networks need if agents' sequences have these lengths, int [B, N]."""
        n_agents = self.info.n_agents
        if len(self.agents) == 1:
            sequences, steps, sizes = sequence_rows(lengths.flatten())
            return PackedRows(sequences // n_agents, steps, sequences % n_agents, [sizes])
        parts = [sequence_rows(column) for column in lengths.unbind(dim=1)]
        agents = [th.full_like(part.steps, agent) for agent, part in enumerate(parts)]
        return PackedRows(
            episodes=th.cat([part.sequences for part in parts]),
            steps=th.cat([part.steps for part in parts]),
            agents=th.cat(agents),
            sizes=[part.sizes for part in parts],
        )

    def packed_outputs(self, inputs: Tensor, packed: PackedRows) -> Tensor:
        """The networks' outputs at packed rows: inputs [M, I] to [M, A]."""
        outputs = []
        parts = inputs.split([sum(sizes) for sizes in packed.sizes])
        for network, part, sizes in zip(self.agents, parts, packed.sizes, strict=True):
            hidden = part.new_zeros(1, sizes[0], network.hidden_size)
            result, _ = self.agent_class.unroll([network], part[None], sizes, hidden)
            outputs.append(result[0])
        return th.cat(outputs) if len(outputs) > 1 else outputs[0]

    @th.inference_mode()
    def act(
        self,
        obs: Tensor,
        avail_actions: Tensor,
        last_actions: Tensor,
        hidden: Tensor,
        greedy: bool = False,
        generator: th.Generator | None = None,
        epsilon: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Chooses one action for every agent.

        Args:
            obs: float [B, N, O], as the environment returns them.
            avail_actions: bool [B, N, A].
            last_actions: int [B, N]; -1 at an episode's first step.
            hidden: [B, N, H], from `init_hidden` at the start of an episode.
            greedy: take the action of the largest output instead of sampling.
            generator: for sampling.
            epsilon: probability of an action drawn uniformly from the available ones.

        Returns:
            actions, int [B, N] in main memory, and the next hidden state.

        Raises:
            DivergenceError: the networks' outputs are not finite.
        """
        if self.obs_mean is not None:
            obs = standardise(obs, self.obs_mean, self.obs_std)
        inputs = self.build_inputs(obs[None], last_actions[None])[0]  # [B, N, I]
        outputs, hidden = self._unroll(inputs, [len(inputs)], hidden)
        log_probs = masked_log_softmax(outputs, avail_actions)
        actions = log_probs.argmax(dim=-1)
        if epsilon or not greedy:
            probs = log_probs.exp()
            if greedy:
                probs = F.one_hot(actions, log_probs.shape[-1]).to(obs.dtype)
            if epsilon:
                # After the end of a game no action may be available, but a draw still needs one.
                n_available = avail_actions.sum(-1, keepdim=True).clamp(min=1)
                probs = (1 - epsilon) * probs + epsilon * avail_actions / n_available
            actions = draw(probs, generator)
        # Actions and the check of the outputs are read at once: each read waits for a GPU.
        actions = actions.where(outputs.isfinite().all(), -1).cpu()
        if (actions < 0).any():
            raise DivergenceError(DIVERGED)
        return actions, hidden

    def init_hidden(self, batch_size: int) -> Tensor:
        """The hidden state at the start of an episode, zeros [B, N, H]."""
        size = self.agents[0].hidden_size
        return th.zeros(batch_size, self.info.n_agents, size, device=self.device)

    def _unroll(
        self,
        inputs: Tensor,
        sizes: list[int],
        hidden: Tensor,
        agents: slice = ALL_AGENTS,
    ) -> tuple[Tensor, Tensor]:
        """Runs the networks of `agents` over packed sequences, see `inspo.utils.packing`.

        Args:
            inputs: [P, N', I].
            sizes: how many of the B sequences run at each step.
            hidden: before the first step, [B, N', H].

        Returns:
            outputs [P, N', A], and the hidden states after each row [P, N', H].
        """
        networks = [*self.agents]  # slicing a list is cheaper than slicing a ModuleList
        if len(networks) > 1:
            # Each network processes the sequences of its agent.
            rows = (inputs.transpose(0, 1), sizes, hidden.transpose(0, 1))
            results = self.agent_class.unroll(networks[agents], *rows)
            outputs, states = (result.transpose(0, 1) for result in results)
            return outputs, states
        n_agents = inputs.shape[1]
        sizes = [n_agents * size for size in sizes]
        rows = (inputs.flatten(0, 1)[None], sizes, hidden.flatten(0, 1)[None])
        results = self.agent_class.unroll(networks, *rows)
        outputs, states = (result[0].unflatten(0, (-1, n_agents)) for result in results)
        return outputs, states


class NonSharedMAC(BasicMAC):
    """One network for each agent, under the name that PyMARL and EPyMARL configs use.

    Same as `basic_mac` with `share_parameters: False`.

    Raises:
        ConfigError: `share_parameters` is True.
    """

    def __init__(self, args: RunConfig, info: EnvInfo):
        if args.share_parameters:
            raise ConfigError(
                "mac=non_shared_mac has one network per agent: set share_parameters=False, "
                "or mac=basic_mac"
            )
        super().__init__(args, info)
