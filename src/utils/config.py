"""Merges YAML files and the command line into one typed, frozen configuration.

Precedence, lowest first: `default.yaml`, the environment's YAML, the algorithm's YAML, its section
`per_env` for that environment, the command line.

The YAML files hold all values. The `Config` classes declare which keys exist, their types and
their ranges. Unknown keys are rejected, with a suggestion.
"""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inspo.utils.errors import ConfigError
from inspo.utils.plugins import import_class

CONFIG_DIR = Path(__file__).resolve().parents[1] / "config"

Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Model = TypeVar("Model", bound=BaseModel)


class RunConfig(BaseModel):
    """The settings of every run, explained in `default.yaml`. Learners add their own."""

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
        """Replaces `key: t_max` by the number.

        The number is recorded: a run resumed with another t_max is then seen to decay differently.
        """
        t_max = values.get("t_max")
        return {key: t_max if value == "t_max" else value for key, value in values.items()}

    @field_validator("dataset_root", "local_results_path", "checkpoint_path")
    @classmethod
    def _expand_home(cls, path: str | None) -> str | None:
        """Expands `~`, which shells do not do in `key=~/x`."""
        return path and os.path.expanduser(path)

    @model_validator(mode="after")
    def _check_recurrent_batches(self) -> "RunConfig":
        if self.agent == "rnn" and self.batch_unit != "episodes":
            raise ValueError(
                "agent=rnn needs batch_unit=episodes: its hidden state starts with the episode"
            )
        return self


class BehaviourConfig(RunConfig):
    """For learners that first clone the dataset's behaviour, then keep the clone frozen."""

    behaviour_steps: PositiveInt
    behaviour_batch_size: PositiveInt
    behaviour_lr: Positive
    init_from_behaviour: bool


class OnlineConfig(RunConfig):
    """For learners that play while they learn.

    Here t_max, the intervals and the x axis count environment steps.
    """

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
    def _drop_dataset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The environment's YAML may name a dataset for offline runs. Online none is read."""
        return {**values, "env_args": {**values["env_args"], "dataset": ""}}

    @model_validator(mode="after")
    def _check_buffer(self) -> "OnlineConfig":
        if self.buffer_size < self.n_parallel:
            raise ValueError(
                f"buffer_size={self.buffer_size} must hold a round of "
                f"n_parallel={self.n_parallel} episodes"
            )
        if self.batch_unit != "episodes":
            raise ValueError("online runs learn from whole episodes: set batch_unit=episodes")
        return self


class ValueConfig(RunConfig):
    """For learners with value networks and soft targets."""

    critic_inputs: Literal["state", "obs", "both"]
    critic_hidden_dim: PositiveInt
    critic_lr: Positive
    tau: Fraction


class _Loader(yaml.SafeLoader):
    """A SafeLoader that reads `3e-4` as a number and rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is written twice", node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def available(kind: Literal["algs", "envs"]) -> dict[str, str]:
    """The shipped algorithm or environment configs: names, and the first comments of the YAMLs."""
    paths = sorted((CONFIG_DIR / kind).glob("*.yaml"))
    return {path.stem: _first_comment(path) for path in paths}


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
        algorithm, environment: name of a shipped YAML, or the path of your own (ending in .yaml).
        overrides: the settings of the command line, as a nested mapping.
        schema_of: from a learner's name to its `Config` class.
        env_of: from an environment's name to its constructor, whose parameters are the keys of
            `env_args`. If it has an attribute `resolve`, that turns `env_args` into the settings
            that are used and recorded.

    Raises:
        ConfigError: names the key, where it was set, and the nearest valid one.
    """
    layers = _layers(algorithm, environment, overrides)
    merged: dict[str, Any] = {"env_config": Path(environment).stem}
    for layer in layers.values():
        merged = merge(merged, layer)
    env_args = merged.get("env_args")
    if not isinstance(env_args, dict):
        raise ConfigError(f"env_args must be a mapping of settings, not {env_args!r}")
    schema = schema_of(str(merged.get("learner")))
    env = env_of(str(merged.get("env")))
    _check_keys(layers, schema.model_fields, _env_arg_names(env))
    if hasattr(env, "resolve"):
        env_args = env.resolve(env_args)
    # The command line reads `dataset=02` as a number, but it is a name.
    env_args["dataset"] = os.path.expanduser(str(env_args.get("dataset", "")))
    return build(schema, {**merged, "env_args": env_args})


def _layers(algorithm: str, environment: str, overrides: Mapping[str, Any]) -> dict[str, dict]:
    """The layers of a configuration by where they come from, lowest precedence first."""
    algorithm_layer = _read_config(algorithm, "algs", "--config")
    per_env = algorithm_layer.pop("per_env", None) or {}
    if not isinstance(per_env, dict) or not all(isinstance(x, dict) for x in per_env.values()):
        raise ConfigError(f"per_env of --config={algorithm} must map environments to settings")
    env_name = Path(environment).stem
    return {
        "default.yaml": read_yaml(CONFIG_DIR / "default.yaml"),
        f"--env-config={environment}": _read_config(environment, "envs", "--env-config"),
        f"--config={algorithm}": algorithm_layer,
        f"per_env.{env_name} of --config={algorithm}": per_env.get(env_name, {}),
        "the command line": dict(overrides),
    }


def _read_config(name: str, kind: Literal["algs", "envs"], option: str) -> dict[str, Any]:
    """The YAML of a shipped name or of a path that ends in .yaml."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
    else:
        path = CONFIG_DIR / kind / f"{name}.yaml"
    if not path.is_file():
        what = "algorithm" if kind == "algs" else "environment"
        near = suggestion(name, available(kind))
        raise ConfigError(f"{option}={name}: there is no such {what}{near}")
    return read_yaml(path)


def _env_arg_names(constructor: Callable) -> set[str] | None:
    """The keys that `env_args` may have. None: any, since the constructor takes **kwargs."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {"dataset", *(parameter.name for parameter in parameters)}


def _check_keys(
    layers: Mapping[str, Mapping], keys: Collection[str], env_args: Collection[str] | None
) -> None:
    """Raises ConfigError with every key that does not exist."""
    problems = []
    for source, layer in layers.items():
        for key in layer:
            if key not in keys:
                near = suggestion(str(key), keys)
                problems.append(f"unknown key '{key}' in {source}{near}")
        for key in layer.get("env_args") or {}:
            if env_args is not None and key not in env_args:
                near = suggestion(str(key), env_args)
                problems.append(f"unknown key 'env_args.{key}' in {source}{near}")
    if problems:
        raise ConfigError("\n  ".join(problems))


def build(schema: type[Model], values: Mapping[str, Any]) -> Model:
    """A checked configuration from plain values.

    Raises:
        ConfigError: lists all values that are missing or wrong.
    """
    try:
        return schema(**values)
    except ValidationError as error:
        problems = "\n  ".join(_describe(error))
        raise ConfigError(f"wrong settings:\n  {problems}") from None


def _describe(error: ValidationError) -> list[str]:
    """One line for each wrong key. A key that may have several types has an error for each."""
    reasons: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for item in error.errors():
        key = str(item["loc"][0]) if item["loc"] else ""
        reasons.setdefault(key, []).append(item["msg"].removeprefix("Value error, "))
        if key and item["type"] != "missing":
            given[key] = f" (given: {item['input']!r})"
    lines = []
    for key, messages in reasons.items():
        prefix = f"{key}: " if key else ""
        lines.append(prefix + ", or: ".join(messages) + given.get(key, ""))
    return lines


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """`update` over `base`, with nested mappings merged key by key. Changes neither argument."""
    merged = deepcopy(dict(base))
    for key, value in update.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else deepcopy(value)
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read or holds no mapping. Names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold `key: value` lines; found {type(content).__name__}")
    return content


def suggestion(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest valid name. If none is near: a list of all."""
    valid = sorted(valid)
    by_lower_case = {known.lower(): known for known in valid}
    wanted = name.lower()
    near = difflib.get_close_matches(wanted, by_lower_case, n=1, cutoff=0.5)
    if not near and wanted:
        near = [known for known in by_lower_case if wanted in known]
    if near:
        return f"; did you mean '{by_lower_case[near[0]]}'?"
    return f"; known: {', '.join(valid)}"


def lookup(registry: Mapping[str, Any], name: str, what: str) -> Any:
    """The entry `name` of a registry, or the class that `package.module:Class` names.

    The second form is for classes outside of this repository, see `inspo.utils.plugins`.

    Args:
        what: the setting that holds the name, for error messages.

    Raises:
        ConfigError: there is no such entry, module or class, or the module fails to import.
    """
    if name in registry:
        return registry[name]
    if ":" in name:
        return import_class(name, what)
    raise ConfigError(f"unknown {what} '{name}'{suggestion(name, registry)}")
