"""Policy networks by name: the setting `agent`.

Each class unrolls several networks over whole sequences at once:

    outputs, hidden = Agent.unroll(networks, inputs, hidden)

`networks` holds G networks. Each has R sequences of T steps: `inputs` [G, R, T, I]. `hidden`
[G, R, H] is the hidden state before the first step, then after the last. `outputs` is [G, R, T, A].

One network also runs over packed sequences without padding, see `inspo.modules.packed_gru`:

    outputs = network.packed(inputs, counts)      [M, I] to [M, A]
"""

from inspo.modules.agents.mlp_agent import MLPAgent
from inspo.modules.agents.rnn_agent import RNNAgent

REGISTRY = {"mlp": MLPAgent, "rnn": RNNAgent}
