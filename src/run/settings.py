"""Settings from YAML files and `key=value` words, checked against what the named classes read."""

from collections.abc import Mapping, Sequence
from typing import Any

from inspo import controllers, envs, learners, runners
from inspo.utils.command import parse_words
from inspo.utils.config import RunConfig, build, load_config, lookup, merge


def settings_of(config: str, env_config: str, words: Sequence[str] = ()) -> RunConfig:
    """The configuration of a run.

    Args:
        config, env_config: name of a shipped YAML, or path of one's own.
        words: `key=value` settings over those of the YAMLs.

    Raises:
        ConfigError: all that is wrong.
    """
    return checked_settings(config, env_config, parse_words(words))


def checked_settings(config: str, env_config: str, overrides: Mapping[str, Any]) -> RunConfig:
    """As `settings_of`, with the overrides as a nested mapping."""
    args = load_config(
        config,
        env_config,
        overrides,
        schema_of=lambda name: lookup(learners.REGISTRY, name, "learner").Config,
        env_of=lambda name: lookup(envs.REGISTRY, name, "env"),
    )
    lookup(controllers.REGISTRY, args.mac, "mac")
    lookup(runners.REGISTRY, args.runner, "runner")
    return args


def settings_from(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> RunConfig:
    """A checkpoint's configuration with `overrides` over it."""
    values = merge(config, overrides)
    if resolve := getattr(lookup(envs.REGISTRY, values["env"], "env"), "resolve", None):
        values["env_args"] = resolve(values["env_args"])
    return build(lookup(learners.REGISTRY, config["learner"], "learner").Config, values)
