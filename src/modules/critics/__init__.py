"""Value networks."""

from inspo.modules.critics.central_critic import CentralCritic
from inspo.modules.critics.local_critic import LocalCritics

__all__ = ["CentralCritic", "LocalCritics"]
