"""Errors caused by user input. Commands print them as one message, without a traceback."""


class UserError(Exception):
    """Says what is wrong, where, and what to do. Commands exit with status 2."""


class ConfigError(UserError):
    """A setting does not exist, has a wrong value, or contradicts another one."""


class DatasetError(UserError):
    """A dataset cannot be used. Names the file and, if known, the field, episode and step."""


class CheckpointError(UserError):
    """A checkpoint cannot be found or read, or does not fit the configuration."""


class GameError(UserError):
    """A tabular game, policy or temperature is invalid. Names the entry and the allowed values."""


class DivergenceError(UserError):
    """A metric became NaN or infinite during training."""


class ComparisonError(UserError):
    """There are no runs to compare, or the given ones cannot share a table."""


class SimulatorError(UserError):
    """A game cannot be started, or keeps failing. Says what is missing, or quotes the game."""


class EnvContractError(UserError):
    """An environment returned what cannot be used. Names environment, method, step and agent."""


class StorageError(UserError):
    """A file cannot be written: the disk is full, read-only or failing. Names the file."""


class DrawingError(UserError):
    """A film cannot be drawn: matplotlib's settings, fonts or ffmpeg are at fault."""


# How PyTorch's CPU and CUDA allocators, CUDA's libraries and JAX say that there is no memory left.
MEMORY_WORDS = ("not enough memory", "out of memory", "STATUS_ALLOC_FAILED", "RESOURCE_EXHAUSTED")


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, PyTorch or JAX asked for more memory than there is."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in MEMORY_WORDS)
