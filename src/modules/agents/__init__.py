"""Policy networks by the name that the `agent` key gives them.

All share one form: `agent(inputs [B, T, I], hidden [B, H]) -> (logits [B, T, A], hidden [B, H])`, whole sequences at once.
"""

from modules.agents.mlp_agent import MLPAgent
from modules.agents.rnn_agent import RNNAgent

REGISTRY = {"mlp": MLPAgent, "rnn": RNNAgent}
