"""Value networks."""

from inspo.modules.critics.local_critic import LocalCritics

__all__ = ["LocalCritics"]
