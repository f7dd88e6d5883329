"""From YAML files and the command line to one typed, frozen configuration.

Precedence, lowest first: `default.yaml` < environment < algorithm < the algorithm's `per_env` section for that
environment < command line. The YAML files are the only source of values; the `Config` classes are the only source of
what keys exist, their types and their ranges: a key that no class declares is an error.
"""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inspo.utils.errors import ConfigError

CONFIG_DIR = Path(__file__).resolve().parents[1] / "config"

Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class RunConfig(BaseModel):
    """The settings every run has; `default.yaml` says what each one does. Learners extend this class with their own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    name: str
    env_config: str
    env: str
    env_args: dict[str, Any]
    runner: str
    mac: str
    learner: str
    agent: Literal["mlp", "rnn"]

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    use_cuda: bool
    num_threads: Count

    t_max: PositiveInt
    batch_size: PositiveInt
    batch_unit: Literal["transitions", "episodes"]
    max_episodes: PositiveInt | None
    dataset_root: str | None

    gamma: Fraction
    lr: Positive
    lr_decay_steps: PositiveInt | None
    grad_norm_clip: NonNegative
    hidden_dim: PositiveInt
    share_parameters: bool
    obs_agent_id: bool
    obs_last_action: bool

    test_interval: PositiveInt
    test_nepisode: Count
    require_simulator: bool
    test_greedy: bool
    log_interval: PositiveInt
    use_tensorboard: bool
    local_results_path: str | None

    save_model: bool
    save_model_interval: PositiveInt
    keep_checkpoints: Count
    checkpoint_path: str | None
    load_step: Count
    evaluate: bool

    @model_validator(mode="before")
    @classmethod
    def _write_out_t_max(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`x: t_max` becomes a number: a run resumed with another t_max cannot then silently decay differently."""
        return {
            key: values.get("t_max") if value == "t_max" else value for key, value in values.items()
        }

    @field_validator("dataset_root", "local_results_path", "checkpoint_path")
    @classmethod
    def _home(cls, path: str | None) -> str | None:
        """Shells leave the `~` of `key=~/x` as it is."""
        return path and os.path.expanduser(path)

    @model_validator(mode="after")
    def _memory_needs_episodes(self) -> "RunConfig":
        if self.agent == "rnn" and self.batch_unit != "episodes":
            raise ValueError(
                "agent=rnn needs batch_unit=episodes: its memory starts where an episode does"
            )
        return self


class BehaviourConfig(RunConfig):
    """For learners that clone the dataset's behaviour first and keep it frozen."""

    behaviour_steps: PositiveInt
    behaviour_batch_size: PositiveInt
    behaviour_lr: Positive
    init_from_behaviour: bool


class OnlineConfig(RunConfig):
    """For learners that play while they learn. Here t_max, the intervals and the x axis count environment steps."""

    buffer_size: PositiveInt
    n_parallel: PositiveInt
    updates_per_round: PositiveInt
    learning_starts: Count
    epsilon_start: Fraction
    epsilon_finish: Fraction
    epsilon_anneal_time: PositiveInt
    medium_score: float | None
    expert_score: float | None

    @model_validator(mode="before")
    @classmethod
    def _no_dataset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The environment's YAML may name one for offline runs; none is read here."""
        return {**values, "env_args": {**values["env_args"], "dataset": ""}}

    @model_validator(mode="after")
    def _a_round_fits_the_buffer(self) -> "OnlineConfig":
        if self.buffer_size < self.n_parallel:
            raise ValueError(
                f"buffer_size={self.buffer_size} must hold a round of n_parallel={self.n_parallel} episodes"
            )
        if self.batch_unit != "episodes":
            raise ValueError(
                "batch_unit must be episodes: an online run learns from whole episodes"
            )
        return self


class ValueConfig(RunConfig):
    """For learners with value networks and soft targets."""

    critic_inputs: Literal["state", "obs", "both"]
    critic_hidden_dim: PositiveInt
    critic_lr: Positive
    tau: Fraction


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads `3e-4` as the number it is, and refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is written twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def available(kind: Literal["algs", "envs"]) -> dict[str, str]:
    """Names of the shipped algorithm or environment configs, each with its YAML's first comment line."""
    return {path.stem: _first_comment(path) for path in sorted((CONFIG_DIR / kind).glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    return first_line.lstrip("# ").strip() if first_line.startswith("#") else ""


def load_config(
    algorithm: str,
    environment: str,
    overrides: Mapping[str, Any],
    schema_of: Callable[[str], type[RunConfig]],
    env_of: Callable[[str], Callable],
) -> RunConfig:
    """Merges all layers and checks the result.

    Args:
        algorithm, environment: name of a shipped YAML, or path of one's own (ending in .yaml).
        overrides: what the command line sets, as a nested mapping.
        schema_of: from a learner's name to its `Config` class.
        env_of: from an environment's name to its constructor, whose parameters are the keys of `env_args`. Its
            attribute `resolve`, if it has one, makes of `env_args` those that are used and recorded.

    Raises:
        ConfigError: naming the key, where it was set, and the nearest valid one.
    """
    algorithm_layer = _read(algorithm, "algs", "--config")
    per_env = algorithm_layer.pop("per_env", None) or {}
    if not isinstance(per_env, dict) or not all(
        isinstance(section, dict) for section in per_env.values()
    ):
        raise ConfigError(f"per_env of --config={algorithm} must map environments to settings")
    environment_name = Path(environment).stem
    layers = {
        "default.yaml": read_yaml(CONFIG_DIR / "default.yaml"),
        f"--env-config={environment}": _read(environment, "envs", "--env-config"),
        f"--config={algorithm}": algorithm_layer,
        f"per_env.{environment_name} of --config={algorithm}": per_env.get(environment_name) or {},
        "the command line": dict(overrides),
    }
    merged: dict[str, Any] = {"env_config": environment_name}
    for layer in layers.values():
        merged = merge(merged, layer)
    if not isinstance(merged.get("env_args"), dict):
        raise ConfigError(f"env_args must be a mapping of settings, not {merged.get('env_args')!r}")
    schema, env = schema_of(str(merged.get("learner"))), env_of(str(merged.get("env")))
    _refuse_unknown(layers, schema, {*inspect.signature(env).parameters, "dataset"})
    if resolve := getattr(
        env, "resolve", None
    ):  # what the settings leave to the machine they are on
        merged["env_args"] = resolve(merged["env_args"])
    # What the command line may write as a number (`dataset=02`) stays a name.
    merged["env_args"]["dataset"] = os.path.expanduser(str(merged["env_args"].get("dataset", "")))
    return build(schema, merged)


def build(schema: type[RunConfig], values: Mapping[str, Any]) -> RunConfig:
    """A checked configuration from plain values; ConfigError lists every value that is missing or wrong."""
    try:
        return schema(**values)
    except ValidationError as error:
        reasons: dict[
            tuple[str, str], list[str]
        ] = {}  # of a key that may be one of several types, one for each
        for item in error.errors():
            key = str(item["loc"][0]) if item["loc"] else ""
            given = "" if item["type"] == "missing" or not key else f" (given: {item['input']!r})"
            reasons.setdefault((key, given), []).append(item["msg"].removeprefix("Value error, "))
        problems = [
            f"{key}: " * bool(key) + ", or: ".join(found) + given
            for (key, given), found in reasons.items()
        ]
        raise ConfigError("wrong settings:\n  " + "\n  ".join(problems)) from None


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """`update` over `base`, nested mappings merged key by key. Neither argument is changed."""
    merged = deepcopy(dict(base))
    for key, value in update.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else deepcopy(value)
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError with file and line if there is none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold `key: value` lines; found {type(content).__name__}")
    return content


def suggestion(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest valid name, or the list of all where none is near."""
    valid = sorted(valid)
    if not name:
        return f"; known: {', '.join(valid)}"
    written, name = {known.lower(): known for known in valid}, name.lower()
    near = difflib.get_close_matches(name, written, n=1, cutoff=0.5) or [
        known for known in written if name in known
    ]
    return f"; did you mean '{written[near[0]]}'?" if near else f"; known: {', '.join(valid)}"


def lookup(registry: Mapping[str, Any], name: str, what: str) -> Any:
    """`registry[name]`, or a ConfigError that says what kind of thing is unknown and suggests the nearest."""
    if name not in registry:
        raise ConfigError(f"unknown {what} '{name}'{suggestion(name, registry)}")
    return registry[name]


def _read(name: str, kind: Literal["algs", "envs"], option: str) -> dict[str, Any]:
    own = name.endswith((".yaml", ".yml"))
    path = Path(os.path.expanduser(name)) if own else CONFIG_DIR / kind / f"{name}.yaml"
    if not path.is_file():
        what = "algorithm" if kind == "algs" else "environment"
        raise ConfigError(
            f"{option}={name}: there is no such {what}{suggestion(name, available(kind))}"
        )
    return read_yaml(path)


def _refuse_unknown(
    layers: Mapping[str, Mapping], schema: type[RunConfig], env_args: set[str]
) -> None:
    for source, layer in layers.items():
        for key in layer:
            if key not in schema.model_fields:
                raise ConfigError(
                    f"unknown key '{key}' in {source}{suggestion(str(key), schema.model_fields)}"
                )
        for key in layer.get("env_args") or {}:
            if key not in env_args:
                raise ConfigError(
                    f"unknown key 'env_args.{key}' in {source}{suggestion(str(key), env_args)}"
                )
