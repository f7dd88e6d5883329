"""Value networks."""

from modules.critics.local_critic import LocalCritics

__all__ = ["LocalCritics"]
