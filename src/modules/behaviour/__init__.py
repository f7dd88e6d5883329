"""Models of how the data was made."""

from modules.behaviour.autoregressive import AutoregressiveBehaviour

__all__ = ["AutoregressiveBehaviour"]
