"""The settings of a run, from YAML files and the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from inspo import controllers, envs, learners, runners
from inspo.learners import BaseLearner
from inspo.utils.command import parse_words
from inspo.utils.config import RunConfig, build
from inspo.utils.errors import ConfigError
from inspo.utils.layers import merge
from inspo.utils.names import lookup
from inspo.utils.resolve import Registries, load_config


def find_learner(name: str) -> type[BaseLearner]:
    """The learner of that name, or of the form package.module:Class.

    Raises:
        ConfigError: there is none, or the class is not a learner.
    """
    found = lookup(learners.REGISTRY, name, "learner")
    if not issubclass(found, BaseLearner):
        raise ConfigError(f"learner={name}: {found.__name__} does not extend BaseLearner")
    return found


REGISTRIES = Registries(
    schema_of=lambda name: find_learner(name).Config,
    env_of=envs.constructor,
    all_keys={key for learner in learners.REGISTRY.values() for key in learner.Config.model_fields},
)


def settings_of(config: str, env_config: str, words: Sequence[str] = ()) -> RunConfig:
    """The checked settings of a run.

    Args:
        config, env_config: name of a shipped YAML, or path of your own.
        words: `key=value` words that override the YAMLs.

    Raises:
        ConfigError: a name, key or value is wrong.
    """
    return checked_settings(config, env_config, parse_words(words))


def checked_settings(config: str, env_config: str, overrides: Mapping[str, Any]) -> RunConfig:
    """Like `settings_of`, with the overrides as a nested mapping."""
    args = load_config(config, env_config, overrides, REGISTRIES)
    lookup(controllers.REGISTRY, args.mac, "mac")
    lookup(runners.REGISTRY, args.runner, "runner")
    return args


def settings_from(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> RunConfig:
    """A checkpoint's settings, with `overrides`."""
    values = merge(config, overrides)
    env = lookup(envs.REGISTRY, values["env"], "env")
    resolve = getattr(env, "resolve", None)
    if resolve is not None:
        values["env_args"] = resolve(values["env_args"])
    return build(find_learner(config["learner"]).Config, values)
