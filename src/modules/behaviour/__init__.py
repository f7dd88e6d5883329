"""Models of what the data's agents did together, by the name that a learner's `behaviour_models` give them.

Both tell log mu(a^-i | s, a^i): what the teammates did, given what agent i did.
"""

from inspo.modules.behaviour.autoregressive import AutoregressiveBehaviour
from inspo.modules.behaviour.chain import ChainBehaviour

REGISTRY = {"autoregressive": AutoregressiveBehaviour, "chain": ChainBehaviour}
