"""Policy networks by the name that the `agent` key gives them.

All share one form, for several networks over whole sequences:
`Agent.unroll(networks, inputs [G, R, T, I], hidden [G, R, H]) -> (outputs [G, R, T, A], hidden [G, R, H])`
takes R sequences through each of the G networks, and gives the hidden states after the last step.
"""

from inspo.modules.agents.mlp_agent import MLPAgent
from inspo.modules.agents.rnn_agent import RNNAgent

REGISTRY = {"mlp": MLPAgent, "rnn": RNNAgent}
