"""Models of the agents' joint behaviour in the data, by the names in `behaviour_models`.

Both give log mu(a^-i | s, a^i): the teammates' actions, given agent i's action.
"""

from inspo.modules.behaviour.autoregressive import AutoregressiveBehaviour
from inspo.modules.behaviour.chain import ChainBehaviour

REGISTRY = {"autoregressive": AutoregressiveBehaviour, "chain": ChainBehaviour}
