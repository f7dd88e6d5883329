"""The multi-agent controller: every agent's policy, with its inputs, over whole sequences or step by step."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.agents import REGISTRY as AGENTS
from inspo.utils.batch import Batch
from inspo.utils.config import RunConfig
from inspo.utils.rl_utils import masked_log_softmax

ALL_AGENTS = slice(None)


class BasicMAC(nn.Module):
    """Policies pi^i(. | tau^i), one network each or one for all (`share_parameters`).

    What a network puts out for its actions are logits to a learner of policies, and values Q^i(tau^i, .) to a learner
    of values. Actions are chosen in `act` alone.
    """

    def __init__(self, args: RunConfig, info: EnvInfo):
        super().__init__()
        self.info, self.obs_last_action, self.obs_agent_id = (
            info,
            args.obs_last_action,
            args.obs_agent_id,
        )
        input_size = (
            info.obs_shape
            + info.n_actions * args.obs_last_action
            + info.n_agents * args.obs_agent_id
        )
        self.register_buffer(
            "position", th.zeros(()), persistent=False
        )  # cheaper to ask than the parameters
        copies = 1 if args.share_parameters else info.n_agents
        self.agent_class = AGENTS[args.agent]
        self.agents = nn.ModuleList(
            self.agent_class(input_size, args.hidden_dim, info.n_actions) for _ in range(copies)
        )

    def build_inputs(self, obs: Tensor, last_actions: Tensor, agents: slice = ALL_AGENTS) -> Tensor:
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

    def outputs(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """What the networks of `agents` put out at all rows of a batch, [B, T, N', A]."""
        inputs = self.build_inputs(batch["obs"], batch["last_actions"], agents)
        return self._unroll(inputs, self.init_hidden(len(inputs))[:, agents], agents)[0]

    def log_probs(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """log pi^i(. | tau^i) of `agents` at all rows of a batch, [B, T, N', A]."""
        return masked_log_softmax(self.outputs(batch, agents), batch["avail_actions"][:, :, agents])

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
        probs = (
            F.one_hot(log_probs.argmax(dim=-1), log_probs.shape[-1]).to(obs.dtype)
            if greedy
            else log_probs.exp()
        )
        if epsilon:
            # A game that is over may leave an agent without any action: its row still has to be drawn from.
            n_available = avail_actions.sum(-1, keepdim=True).clamp(min=1)
            probs = (1 - epsilon) * probs + epsilon * avail_actions / n_available
        actions = th.multinomial(probs.flatten(0, 1), 1, generator=generator)
        return actions.view(probs.shape[:2]), hidden

    def init_hidden(self, batch_size: int) -> Tensor:
        """The hidden state at the start of an episode, zeros [B, N, H]."""
        return th.zeros(
            batch_size, self.info.n_agents, self.agents[0].hidden_size, device=self.device
        )

    @property
    def device(self) -> th.device:
        """Where the networks are."""
        return self.position.device

    def _unroll(
        self, inputs: Tensor, hidden: Tensor, agents: slice = ALL_AGENTS
    ) -> tuple[Tensor, Tensor]:
        """Over [B, T, N', I] from hidden [B, N', H]: outputs [B, T, N', A], and hidden after the last step."""
        batch_size, steps, n_agents, _ = inputs.shape
        networks = [
            *self.agents
        ]  # a list's slice costs next to nothing, a ModuleList's a new module
        networks = networks[agents] if len(networks) > 1 else networks
        # A network's rows are those of the agent, or of all the agents, that it acts for.
        sizes = (len(networks), batch_size * n_agents // len(networks))
        rows = inputs.permute(2, 0, 1, 3).reshape(*sizes, steps, inputs.shape[-1])
        states = hidden.transpose(0, 1).reshape(*sizes, hidden.shape[-1])
        outputs, last = self.agent_class.unroll(networks, rows, states)
        outputs = outputs.reshape(n_agents, batch_size, steps, -1).permute(1, 2, 0, 3)
        return outputs, last.reshape(n_agents, batch_size, last.shape[-1]).transpose(0, 1)
