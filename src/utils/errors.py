"""Errors that are the user's to mend: shown as one message, without a traceback."""


class UserError(Exception):
    """Says what is wrong, where, and what to do. The command line prints it and exits with status 2."""


class ConfigError(UserError):
    """A setting does not exist, has a wrong value, or does not fit the others."""


class DatasetError(UserError):
    """A dataset cannot be used: which file, field, episode and step."""


class CheckpointError(UserError):
    """A checkpoint cannot be found, read, or does not fit the configuration."""


class GameError(UserError):
    """A tabular game, policy or temperature is not one that can be solved: which entry, and what it must be."""


class DivergenceError(UserError):
    """Training left the finite numbers."""


class ComparisonError(UserError):
    """Runs cannot stand in one table, or there are none: which ones, and how to choose."""


class SimulatorError(UserError):
    """A game cannot be started here, or keeps failing: what is missing, or the game's own words."""
