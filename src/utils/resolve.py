"""One typed, frozen configuration from the YAML files and the command line.

`inspo.utils.layers` says which files there are and what wins. The YAML files hold all values. The
`Config` classes declare which keys exist, their types and their ranges. All problems are told at
once.
"""

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from inspo.utils.config import RunConfig, value_problems
from inspo.utils.errors import ConfigError
from inspo.utils.layers import (
    Kind,
    Values,
    defaults,
    merge,
    read_source,
    section_name,
    sections_beside,
    sections_of,
    shipped_sections,
)
from inspo.utils.names import near_key, suggestion
from inspo.utils.plugins import searching
from inspo.utils.pymarl_names import answer_to_key
from inspo.utils.values import plain, shown, shown_name, value_faults

GIVEN = "the given settings"  # of the command line, or of inspo.train
# Keys that would give a run of one algorithm or environment the name of another.
MISPLACED = {"algs": ("env",), "envs": ("name", "learner")}
PLACES = {"algs": "algorithm's", "envs": "environment's"}
FEW = 10  # names that a message can list


class Layer(NamedTuple):
    """Some of the values, and where they come from."""

    label: str
    values: Values


class Registries(NamedTuple):
    """From names in the YAMLs to what they mean. Each raises ConfigError for an unknown name."""

    schema_of: Callable[[str], type[RunConfig]]  # from a learner's name to its Config class
    env_of: Callable[[str], Callable]  # from an environment's name to its constructor
    parts: Mapping[str, Callable[[str], Any]]  # from settings as `mac` to what checks their names
    all_keys: Mapping[str, list[str]]  # from the settings of all learners to those that read them


class Resolver:
    """Merges all layers and checks the result.

    Args:
        algorithm, environment: name of a shipped YAML, or the path of your own (ending in .yaml).
        overrides: the settings of the command line, as a nested mapping.
    """

    def __init__(
        self,
        algorithm: str,
        environment: str,
        overrides: Mapping[str, Any],
        registries: Registries,
    ):
        self.registries = registries
        self.env_config = Path(environment).stem
        self.problems: list[str] = []
        self.wrong: set[str] = set()  # settings whose problems are noted
        sources = [
            self._noting(partial(read_source, kind=kind), name)
            for name, kind in ((algorithm, "algs"), (environment, "envs"))
        ]
        self._raise_problems()
        self.algorithm, self.environment = sources
        self._check_places()
        self.section = self._noting(section_name, self.environment)
        sections = self._noting(sections_of, self.algorithm)
        self.shipped_sections, self.own_sections = sections or ({}, {})
        self.layers = self._layers(plain(dict(overrides)))
        self.merged = merge({}, *(layer.values for layer in self.layers))

    def resolve(self) -> RunConfig:
        """The configuration. Its `remarks` say which section of the algorithm applies.

        Raises:
            ConfigError: every unknown key, wrong value and unread section, and where it stands.
        """
        schema, env = self._schema(), self._env()
        keys = schema.model_fields if schema else self.registries.all_keys
        self._check_keys(keys, env)
        self._check_sections(keys)
        self._check_values()
        self._check_parts(keys)
        env_args = self.merged.get("env_args")
        if not isinstance(env_args, dict):
            self.problems.append(f"env_args must be a mapping of settings, not {shown(env_args)}")
            env_args = {}
        if schema and not self.problems and hasattr(env, "resolve"):
            with self._searching():
                env_args = env.resolve(env_args)
        if "env_args" not in self.wrong:
            env_args = {**env_args, "dataset": _dataset(env_args.get("dataset"))}
        fixed = {"env_config": self.env_config, "env_args": env_args}
        config = self._build(schema or RunConfig, {**self.merged, **fixed})
        self._raise_problems()
        return config.with_remarks([*self._remarks(), *self._unread_dataset(config)])

    def _raise_problems(self) -> None:
        """Raises all problems so far."""
        if len(self.problems) == 1:
            raise ConfigError(self.problems[0])
        if self.problems:
            raise ConfigError("wrong settings:\n  " + "\n  ".join(self.problems))

    def _layers(self, overrides: Mapping[str, Any]) -> list[Layer]:
        """Lowest precedence first."""
        env, alg = self.environment, self.algorithm
        section = f"per_env.{shown_name(self.section)} of {alg.label}"
        return [
            Layer("default.yaml", defaults()),
            Layer(env.shipped_label, env.shipped),
            Layer(alg.shipped_label, alg.shipped),
            Layer(section, self.shipped_sections.get(self.section, {})),
            Layer(env.label, env.own),
            Layer(alg.label, alg.own),
            Layer(section, self.own_sections.get(self.section, {})),
            Layer(GIVEN, dict(overrides)),
        ]

    def _schema(self) -> type[RunConfig] | None:
        if self.merged.get("learner") is None:
            self.wrong.add("learner")
            self.problems.append(
                f"{self.algorithm.label} names no learner; `base: inspo` (or another algorithm) "
                "in it takes everything from there that it does not set itself"
            )
            return None
        return self._part("learner", self.registries.schema_of)

    def _env(self) -> Callable | None:
        if self.merged.get("env") is None:
            self.wrong.add("env")
            self.problems.append(
                f"{self.environment.label} names no env; `base: xor_offline` (or another "
                "environment) in it takes everything from there that it does not set itself"
            )
            return None
        return self._part("env", self.registries.env_of)

    def _part(self, setting: str, find: Callable[[str], Any]) -> Any:
        """What the value of a setting names, or None after its problem is noted."""
        before = len(self.problems)
        name = self.merged[setting]
        with self._searching():
            found = self._noting(find, name if isinstance(name, str) else shown(name))
        if len(self.problems) > before:
            self.wrong.add(setting)
        return found

    def _searching(self) -> AbstractContextManager[None]:
        """A module may lie beside the YAML that names it."""
        return searching([*self.algorithm.folders, *self.environment.folders])

    def _noting(self, find: Callable[[Any], Any], name: Any) -> Any:
        """`find(name)`, or None after its problem is noted."""
        try:
            return find(name)
        except ValueError as error:  # a class that shows no parameters, as `builtins:dict`
            self.problems.append(f"{name}: {error}")
        except ConfigError as error:
            self.problems.append(str(error))
        return None

    def _check_places(self) -> None:
        """Notes an algorithm's keys in an environment's YAML, and the other way round."""
        kinds: tuple[Kind, Kind] = ("algs", "envs")
        for kind, other in (kinds, reversed(kinds)):
            source = self.algorithm if kind == "algs" else self.environment
            for key in MISPLACED[kind]:
                found = [
                    values.pop(key) for values in (source.shipped, source.own) if key in values
                ]
                if found:
                    self.problems.append(
                        f"{key} in {source.label}: it belongs in the {PLACES[other]} YAML"
                    )

    def _check_keys(self, keys: Collection[str], env: Callable | None) -> None:
        """Notes every key that nothing reads."""
        env_args = env_arg_names(env) if env else None
        for label, values in self.layers:
            for key in values:
                self._check_key(key, label, keys)
            nested = values.get("env_args")
            for key in nested if isinstance(nested, dict) else ():
                if env_args is not None and key not in env_args:
                    name = f"env_args.{shown_name(key)}"
                    answer = answer_to_key(name) or self._near_env_arg(key, env_args)
                    self.problems.append(f"unknown key '{name}' in {label}{answer}")

    def _near_env_arg(self, key: Any, known: Collection[str]) -> str:
        find = suggestion if len(known) <= FEW else near_key
        return find(str(key), known)

    def _check_key(self, key: Any, label: str, keys: Collection[str]) -> None:
        if key == "env_config":
            self.problems.append(
                f"env_config in {label}: it is the name of --env-config's YAML and cannot be set"
            )
        elif key not in keys:
            name = shown_name(key)
            self.problems.append(f"unknown key '{name}' in {label}{self._answer(key, keys)}")

    def _answer(self, key: Any, keys: Collection[str]) -> str:
        """`; ...` with what may help against an unknown key; empty if nothing is known."""
        if not isinstance(key, str):
            return ""
        if readers := self.registries.all_keys.get(key):
            return f"; only read by {', '.join(readers)}"
        section, _, name = key.partition(".")
        if name and section in keys:
            return f"; in a YAML, `{name}:` stands in a line of its own below `{section}:`"
        return answer_to_key(key) or near_key(key, keys)

    def _check_values(self) -> None:
        """Notes values that cannot be stored."""
        for label, values in self.layers:
            for key, value in values.items():
                for fault in value_faults(value, shown_name(key)):
                    self.problems.append(f"{fault} (in {label})")
                    self.wrong.add(key)

    def _check_parts(self, keys: Collection[str]) -> None:
        """Notes the names of parts, as `mac`, that do not exist."""
        for setting, find in self.registries.parts.items():
            if setting in keys and self.merged.get(setting) is not None:
                self._part(setting, find)

    def _check_sections(self, keys: Collection[str]) -> None:
        """Notes sections that no environment reads, and wrong keys in any of them."""
        shipped = shipped_sections()
        read_here = {*shipped, self.section}
        of_algorithm = {*self.shipped_sections, *self.own_sections}
        if self.section is not None and self.section not in shipped | of_algorithm:
            self.problems.append(
                f"per_env={self.section} of {self.environment.label}: no algorithm has such a "
                f"section{suggestion(self.section, shipped | of_algorithm)}"
            )
        if not read_here.issuperset(self.own_sections):
            read_here |= sections_beside(self.algorithm, self.environment)
        for name, values in self.own_sections.items():
            label = f"per_env.{shown_name(name)} of {self.algorithm.label}"
            if name not in read_here:
                near = suggestion(shown_name(name), read_here - {None})
                self.problems.append(
                    f"{label}: no environment reads this section{near}; "
                    "an environment's YAML says `per_env: NAME`"
                )
            if name != self.section:  # that one is a layer
                for key in values:
                    self._check_key(key, label, keys)

    def _build(self, schema: type[RunConfig], values: Values) -> RunConfig | None:
        """The configuration, or None after its problems are noted."""
        known = {key: value for key, value in values.items() if key in schema.model_fields}
        # Wrong values may be too strange for pydantic's messages.
        values = known | dict.fromkeys(self.wrong.intersection(known))
        config, problems = value_problems(schema, values)
        self.problems += [text for key, text in problems if key not in self.wrong]
        for name, section in self.own_sections.items():
            if name == self.section:
                continue
            known = {key: value for key, value in section.items() if key in schema.model_fields}
            _, problems = value_problems(schema, merge(values, known))
            label = f"per_env.{shown_name(name)} of {self.algorithm.label}"
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
        own = [source for source in (self.environment, self.algorithm) if source.own]
        return [remark, *(f"{source.label} sets {self._shown(source.own)}" for source in own)]

    def _unread_dataset(self, config: RunConfig) -> Iterator[str]:
        """A remark on a dataset that was given to a learner that plays its own episodes."""
        given = self.layers[-1].values.get("env_args", {})
        if given.get("dataset") and not config.env_args["dataset"]:
            dataset = shown_name(str(given["dataset"]))
            yield f"env_args.dataset={dataset} is not read: {config.name} learns online"

    def _shown(self, values: Values) -> str:
        """`key=value, ...`; what something else overrides is said to be so."""
        texts = []
        for key, value in values.items():
            if isinstance(value, dict):
                texts.append(key)
            elif self.merged[key] == value:
                texts.append(f"{key}={value}")
            else:
                texts.append(f"{key}={value} (overridden: {self.merged[key]})")
        return ", ".join(texts)


def _dataset(name: Any) -> str:
    """Name or path. The command line reads `dataset=02` as a number, but it is a name."""
    return "" if name is None else os.path.expanduser(str(name))


def env_arg_names(constructor: Callable) -> set[str] | None:
    """The keys that `env_args` may have. None: any, since the constructor takes **kwargs."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {"dataset", *(parameter.name for parameter in parameters)}
