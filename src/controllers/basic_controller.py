"""The multi-agent controller: every agent's policy, with its inputs, over whole sequences or step by step."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from components.offline_buffer import Batch
from envs import EnvInfo
from modules.agents import REGISTRY as AGENTS
from utils.config import RunConfig
from utils.rl_utils import masked_log_softmax


class BasicMAC(nn.Module):
    """Policies pi^i(. | tau^i), one network each or one for all (`share_parameters`).

    What a network puts out for its actions are logits to a learner of policies, and values Q^i(tau^i, .) to a learner
    of values. Actions are chosen in `act` alone.
    """

    def __init__(self, args: RunConfig, info: EnvInfo):
        super().__init__()
        self.info, self.obs_last_action, self.obs_agent_id = info, args.obs_last_action, args.obs_agent_id
        input_size = info.obs_shape + info.n_actions * args.obs_last_action + info.n_agents * args.obs_agent_id
        self.register_buffer("position", th.zeros(()), persistent=False)  # cheaper to ask than the parameters
        copies = 1 if args.share_parameters else info.n_agents
        self.agents = nn.ModuleList(
            AGENTS[args.agent](input_size, args.hidden_dim, info.n_actions) for _ in range(copies)
        )

    def agent(self, i: int) -> nn.Module:
        """The network that agent `i` acts with."""
        return self.agents[i % len(self.agents)]

    def build_inputs(self, obs: Tensor, last_actions: Tensor, agents: slice = slice(None)) -> Tensor:
        """What the networks of `agents` see, [B, T, N', I].

        Args:
            obs: of all agents, [B, T, N, O].
            last_actions: of all agents, [B, T, N], -1 where there is none yet.
        """
        obs, last_actions = obs[:, :, agents], last_actions[:, :, agents]
        inputs = [obs]
        if self.obs_last_action:
            one_hot = F.one_hot(last_actions.clamp(min=0), self.info.n_actions)
            inputs.append((one_hot * (last_actions >= 0)[..., None]).to(obs.dtype))
        if self.obs_agent_id:
            ids = th.eye(self.info.n_agents, device=obs.device, dtype=obs.dtype)[agents]
            inputs.append(ids.expand(*obs.shape[:3], -1))
        return th.cat(inputs, dim=-1) if len(inputs) > 1 else obs

    def outputs(self, batch: Batch) -> Tensor:
        """What the networks of all agents put out at all rows of a batch, [B, T, N, A]."""
        inputs = self.build_inputs(batch["obs"], batch["last_actions"])
        return self._unroll(inputs, self.init_hidden(len(inputs)))[0]

    def log_probs(self, batch: Batch) -> Tensor:
        """log pi^i(. | tau^i) of all agents at all rows of a batch, [B, T, N, A]."""
        return masked_log_softmax(self.outputs(batch), batch["avail_actions"])

    def agent_log_probs(self, i: int, batch: Batch) -> Tensor:
        """log pi^i(. | tau^i) of agent `i` alone, [B, T, A]."""
        inputs = self.build_inputs(batch["obs"], batch["last_actions"], slice(i, i + 1)).squeeze(2)
        logits, _ = self.agent(i)(inputs, self.init_hidden(len(inputs))[:, i])
        return masked_log_softmax(logits, batch["avail_actions"][:, :, i])

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
        """One step of acting.

        Args:
            obs: float [B, N, O].
            avail_actions: bool [B, N, A].
            last_actions: int [B, N], -1 where there is none yet.
            hidden: [B, N, H], from `init_hidden` at the start of an episode.
            greedy: take the likeliest (or most valued) action instead of sampling.
            generator: fixes the sampling.
            epsilon: share of actions drawn uniformly from the available ones.

        Returns:
            actions, int [B, N], and the next hidden state.
        """
        inputs = self.build_inputs(obs.unsqueeze(1), last_actions.unsqueeze(1))
        logits, hidden = self._unroll(inputs, hidden)
        log_probs = masked_log_softmax(logits.squeeze(1), avail_actions)
        if greedy and not epsilon:
            return log_probs.argmax(dim=-1), hidden
        probs = F.one_hot(log_probs.argmax(dim=-1), log_probs.shape[-1]).to(obs.dtype) if greedy else log_probs.exp()
        if epsilon:
            probs = (1 - epsilon) * probs + epsilon * avail_actions / avail_actions.sum(-1, keepdim=True)
        actions = th.multinomial(probs.flatten(0, 1), 1, generator=generator)
        return actions.view(probs.shape[:2]), hidden

    def init_hidden(self, batch_size: int) -> Tensor:
        """The hidden state at the start of an episode, zeros [B, N, H]."""
        return th.zeros(batch_size, self.info.n_agents, self.agents[0].hidden_size, device=self.device)

    @property
    def device(self) -> th.device:
        """Where the networks are."""
        return self.position.device

    def _unroll(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """All agents over [B, T, N, I] from hidden [B, N, H]: logits [B, T, N, A], and hidden after the last step."""
        if len(self.agents) == 1:  # agents become part of the batch
            sequences = inputs.transpose(1, 2).flatten(0, 1)  # [B*N, T, I]
            logits, last = self.agents[0](sequences, hidden.flatten(0, 1))
            return logits.unflatten(0, hidden.shape[:2]).transpose(1, 2), last.unflatten(0, hidden.shape[:2])
        outputs = [agent(inputs[:, :, i], hidden[:, i]) for i, agent in enumerate(self.agents)]
        return th.stack([logits for logits, _ in outputs], dim=2), th.stack([last for _, last in outputs], dim=1)
