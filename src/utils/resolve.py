"""One typed, frozen configuration from the YAML files and the command line.

`inspo.utils.layers` says which files there are and what wins. The YAML files hold all values. The
`Config` classes declare which keys exist, their types and their ranges. All problems are told at
once.
"""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inspo.utils.config import RunConfig, value_problems
from inspo.utils.errors import ConfigError
from inspo.utils.foreign import foreign_key
from inspo.utils.layers import (
    CONFIG_DIR,
    Source,
    Values,
    merge,
    read_source,
    section_name,
    sections_beside,
    sections_of,
    shipped_sections,
)
from inspo.utils.names import near_key, suggestion
from inspo.utils.yaml_files import read_yaml

GIVEN = "the given settings"  # of the command line, or of inspo.train


class Layer(NamedTuple):
    """Some of the values, and where they come from."""

    label: str
    values: Values


class Registries(NamedTuple):
    """From names in the YAMLs to what they mean. Each raises ConfigError for an unknown name."""

    schema_of: Callable[[str], type[RunConfig]]  # from a learner's name to its Config class
    env_of: Callable[[str], Callable]  # from an environment's name to its constructor
    all_keys: Collection[str]  # of all learners, for files whose learner is unknown


def load_config(
    algorithm: str, environment: str, overrides: Mapping[str, Any], registries: Registries
) -> RunConfig:
    """Merges all layers and checks the result.

    Args:
        algorithm, environment: name of a shipped YAML, or the path of your own (ending in .yaml).
        overrides: the settings of the command line, as a nested mapping.

    Returns:
        the configuration. Its `remarks` say which section of the algorithm applies.

    Raises:
        ConfigError: every unknown key, wrong value and unread section, and where it stands.
    """
    return _Resolver(algorithm, environment, overrides, registries).resolve()


class _Resolver:
    def __init__(
        self,
        algorithm: str,
        environment: str,
        overrides: Mapping[str, Any],
        registries: Registries,
    ):
        self.registries = registries
        self.env_config = Path(environment).stem
        self.algorithm = read_source(algorithm, "algs")
        self.environment = read_source(environment, "envs")
        self.section = section_name(self.environment)
        self.shipped_sections, self.own_sections = sections_of(self.algorithm)
        self.layers = self._layers(overrides)
        self.merged: Values = {}
        for layer in self.layers:
            self.merged = merge(self.merged, layer.values)
        self.problems: list[str] = []

    def resolve(self) -> RunConfig:
        schema, env = self._schema(), self._env()
        keys = schema.model_fields if schema else self.registries.all_keys
        self._check_keys(keys, env)
        self._check_sections(keys)
        env_args = self.merged.get("env_args")
        if not isinstance(env_args, dict):
            self.problems.append(f"env_args must be a mapping of settings, not {env_args!r}")
        if schema and not self.problems and hasattr(env, "resolve"):
            env_args = env.resolve(env_args)
        if schema and isinstance(env_args, dict):
            # The command line reads `dataset=02` as a number, but it is a name.
            dataset = os.path.expanduser(str(env_args.get("dataset", "")))
            known = {key: value for key, value in self.merged.items() if key in keys}
            fixed = {"env_config": self.env_config, "env_args": {**env_args, "dataset": dataset}}
            config = self._build(schema, {**known, **fixed})
        if self.problems:
            raise ConfigError("wrong settings:\n  " + "\n  ".join(self.problems))
        return config.with_remarks(self._remarks())

    def _layers(self, overrides: Mapping[str, Any]) -> list[Layer]:
        """Lowest precedence first."""
        env, alg = self.environment, self.algorithm
        section = f"per_env.{self.section} of {alg.label}"
        return [
            Layer("default.yaml", read_yaml(CONFIG_DIR / "default.yaml")),
            Layer(env.label, env.shipped),
            Layer(alg.label, alg.shipped),
            Layer(section, self.shipped_sections.get(self.section, {})),
            Layer(env.label, env.own),
            Layer(alg.label, alg.own),
            Layer(section, self.own_sections.get(self.section, {})),
            Layer(GIVEN, dict(overrides)),
        ]

    def _schema(self) -> type[RunConfig] | None:
        name = self.merged.get("learner")
        if name is None:
            self.problems.append(
                f"{self.algorithm.label} names no learner; `base: inspo` (or another algorithm) "
                "in it takes everything from there that it does not set itself"
            )
            return None
        return self._noting(self.registries.schema_of, str(name))

    def _env(self) -> Callable | None:
        name = self.merged.get("env")
        if name is None:
            self.problems.append(
                f"{self.environment.label} names no env; `base: xor_offline` (or another "
                "environment) in it takes everything from there that it does not set itself"
            )
            return None
        return self._noting(self.registries.env_of, str(name))

    def _noting(self, find: Callable[[str], Any], name: str) -> Any:
        try:
            return find(name)
        except ConfigError as error:
            self.problems.append(str(error))
            return None

    def _check_keys(self, keys: Collection[str], env: Callable | None) -> None:
        """Notes every key that nothing reads."""
        env_args = env_arg_names(env) if env else None
        for label, values in self.layers:
            for key in values:
                self._check_key(str(key), label, keys)
            nested = values.get("env_args")
            for key in nested if isinstance(nested, dict) else ():
                if env_args is not None and key not in env_args:
                    answer = foreign_key(f"env_args.{key}") or suggestion(str(key), env_args)
                    self.problems.append(f"unknown key 'env_args.{key}' in {label}{answer}")

    def _check_key(self, key: str, label: str, keys: Collection[str]) -> None:
        if key == "env_config":
            self.problems.append(
                f"env_config in {label}: it is the name of --env-config's YAML and cannot be set"
            )
        elif key not in keys:
            answer = foreign_key(key) or near_key(key, keys)
            self.problems.append(f"unknown key '{key}' in {label}{answer}")

    def _check_sections(self, keys: Collection[str]) -> None:
        """Notes sections that no environment reads, and wrong keys in any of them."""
        shipped = shipped_sections()
        of_algorithm = {*self.shipped_sections, *self.own_sections}
        if self.section is not None and self.section not in shipped | of_algorithm:
            self.problems.append(
                f"per_env={self.section} of {self.environment.label}: no algorithm has such a "
                f"section{suggestion(self.section, shipped | of_algorithm)}"
            )
        known = shipped | sections_beside(self.algorithm, self.environment) | {self.section}
        known.discard(None)
        for name, values in self.own_sections.items():
            label = f"per_env.{name} of {self.algorithm.label}"
            if name not in known:
                self.problems.append(
                    f"{label}: no environment reads this section{suggestion(str(name), known)}; "
                    "an environment's YAML says `per_env: NAME`"
                )
            if name != self.section:  # that one is a layer
                for key in values:
                    self._check_key(str(key), label, keys)

    def _build(self, schema: type[RunConfig], values: Values) -> RunConfig | None:
        """The configuration, or None after its problems are noted."""
        config, problems = value_problems(schema, values)
        self.problems += [text for _, text in problems]
        for name, section in self.own_sections.items():
            if name == self.section:
                continue
            known = {key: value for key, value in section.items() if key in schema.model_fields}
            _, problems = value_problems(schema, merge(values, known))
            label = f"per_env.{name} of {self.algorithm.label}"
            self.problems += [f"{label}: {text}" for key, text in problems if key in known]
        return config

    def _remarks(self) -> list[str]:
        """Which section applies and what it sets, and what files of the user's set."""
        section = merge(
            self.shipped_sections.get(self.section, {}), self.own_sections.get(self.section, {})
        )
        if section:
            remark = f"per_env.{self.section} of {self.algorithm.label} sets {self._shown(section)}"
        elif self.section is None:
            remark = f"{self.environment.label} names no per_env section of the algorithms"
        else:
            remark = f"{self.algorithm.label} has no per_env section '{self.section}'"
        sources = (self.environment, self.algorithm)
        return [remark, *(self._own_remark(source) for source in sources if source.own)]

    def _own_remark(self, source: Source) -> str:
        return f"{source.label} sets {self._shown(source.own)}"

    def _shown(self, values: Values) -> str:
        """`key=value, ...`; what something else overrides is said to be so."""
        shown = []
        for key, value in values.items():
            if isinstance(value, dict):
                shown.append(key)
            elif self.merged[key] == value:
                shown.append(f"{key}={value}")
            else:
                shown.append(f"{key}={value} (overridden: {self.merged[key]})")
        return ", ".join(shown)


def env_arg_names(constructor: Callable) -> set[str] | None:
    """The keys that `env_args` may have. None: any, since the constructor takes **kwargs."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {"dataset", *(parameter.name for parameter in parameters)}
