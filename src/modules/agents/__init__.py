"""Policy networks by the name that the `agent` key gives them.

All share one form, over whole sequences: `agent(inputs [B, T, I], hidden [B, H]) -> (logits [B, T, A], hidden [B, H])`.
"""

from modules.agents.mlp_agent import MLPAgent
from modules.agents.rnn_agent import RNNAgent

REGISTRY = {"mlp": MLPAgent, "rnn": RNNAgent}
