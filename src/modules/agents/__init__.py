"""Policy networks by name: the setting `agent`.

Each class unrolls several networks over whole sequences at once:

    outputs, states = Agent.unroll(networks, inputs, sizes, hidden)

`networks` holds G networks. Each has its own R sequences. Their rows are packed step by step, see
`inspo.utils.packing`: `inputs` [G, P, I], of which `sizes` [T] belong to each step. `hidden`
[G, R, H] is the hidden state before the first step, `states` [G, P, H] the one after each row.
`outputs` is [G, P, A].
"""

from inspo.modules.agents.mlp_agent import MLPAgent
from inspo.modules.agents.rnn_agent import RNNAgent

REGISTRY = {"mlp": MLPAgent, "rnn": RNNAgent}
