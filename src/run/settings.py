"""The settings of a run, from YAML files and the command line."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from inspo import controllers, envs, learners, runners
from inspo.controllers import BasicMAC
from inspo.learners import BaseLearner
from inspo.modules import agents
from inspo.modules.mixers import mixer_class
from inspo.runners.batch_runner import BatchRunner
from inspo.utils.config import RunConfig, build
from inspo.utils.errors import ConfigError
from inspo.utils.layers import merge
from inspo.utils.names import lookup, suggestion
from inspo.utils.resolve import Registries, Resolver, env_arg_names
from inspo.utils.words import parse_words


def find_learner(name: str) -> type[BaseLearner]:
    """The learner of that name, or of the form package.module:Class.

    Raises:
        ConfigError: there is none, or the class is not a learner.
    """
    found = lookup(learners.REGISTRY, name, "learner", base=BaseLearner)
    if not issubclass(found.Config, RunConfig):
        raise ConfigError(f"learner={name}: its Config does not extend RunConfig")
    return found


def _readers() -> dict[str, list[str]]:
    """From the settings of all learners to the names of those that read them."""
    readers: dict[str, list[str]] = {}
    for name, learner in learners.REGISTRY.items():
        for key in learner.Config.model_fields:
            readers.setdefault(key, []).append(name)
    return readers


REGISTRIES = Registries(
    schema_of=lambda name: find_learner(name).Config,
    env_of=envs.constructor,
    parts={
        "runner": partial(lookup, runners.REGISTRY, what="runner", base=BatchRunner),
        "mac": partial(lookup, controllers.REGISTRY, what="mac", base=BasicMAC),
        "agent": partial(lookup, agents.REGISTRY, what="agent"),
        "mixer": mixer_class,
    },
    all_keys=_readers(),
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
    return Resolver(config, env_config, overrides, REGISTRIES).resolve()


def settings_from(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> RunConfig:
    """A checkpoint's settings, with `overrides`.

    Raises:
        ConfigError: a key or value is wrong.
    """
    values = merge(config, overrides)
    env = envs.constructor(values["env"])
    known = env_arg_names(env)
    for key in overrides.get("env_args", {}):
        if known is not None and key not in known:
            raise ConfigError(f"unknown key 'env_args.{key}'{suggestion(key, known)}")
    resolve = getattr(env, "resolve", None)
    if resolve is not None:
        values["env_args"] = resolve(values["env_args"])
    return build(find_learner(config["learner"]).Config, values)
