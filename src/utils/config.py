"""What keys a configuration has, their types and their ranges. The YAML files hold the values.

`inspo.utils.layers` says which files there are and what wins; `inspo.utils.resolve` merges them.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inspo.utils.device import NAMES
from inspo.utils.errors import ConfigError
from inspo.utils.layers import CONFIG_DIR, merge
from inspo.utils.names import lookup, suggestion
from inspo.utils.values import shown
from inspo.utils.yaml_files import read_yaml

__all__ = ["CONFIG_DIR", "lookup", "merge", "read_yaml", "suggestion"]

Count = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
# Bounds that nobody needs, but that typing errors exceed. They would exhaust the memory.
Width = Annotated[int, Field(ge=1, le=2**14)]  # of a network's layer
BatchSize = Annotated[int, Field(ge=1, le=10**7)]
GameCount = Annotated[int, Field(ge=0, le=10**6)]  # side by side
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# Settings that online runs refuse, and what they do.
OF_DATASETS = {
    "chunk_length": "cuts the episodes of datasets",
    "reward_scalarisation": (
        "is of datasets (env_args.reward_scalarisation is of environments whose agents have "
        "different rewards)"
    ),
    "standardise_obs": "takes its means and standard deviations from a dataset",
}
Model = TypeVar("Model", bound=BaseModel)


class RunConfig(BaseModel):
    """The settings of every run, explained in `default.yaml`. Learners add their own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    name: Annotated[str, Field(min_length=1)]
    env_config: str
    env: str
    env_args: dict[str, Any]
    runner: str
    mac: str
    learner: str
    agent: Literal["mlp", "rnn"]

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    use_cuda: bool
    device: str = "auto"  # which earlier checkpoints lack
    use_cuda_graphs: bool = False  # likewise
    num_threads: Annotated[int, Field(ge=0, le=1024)]

    t_max: PositiveInt
    batch_size: BatchSize
    batch_unit: Literal["transitions", "episodes"]
    # Settings with a default came later: earlier checkpoints lack them.
    chunk_length: PositiveInt | None = None
    max_episodes: PositiveInt | None
    reward_scalarisation: Literal["mean", "sum"] | None = None
    precision: Literal["float32", "bf16"] = "float32"
    standardise_rewards: bool = False
    standardise_obs: bool = False
    dataset_root: str | None

    gamma: Fraction
    lr: Positive
    lr_decay_steps: PositiveInt | None
    grad_norm_clip: NonNegative
    hidden_dim: Width
    share_parameters: bool
    obs_agent_id: bool
    obs_last_action: bool

    test_interval: PositiveInt
    test_nepisode: GameCount
    require_simulator: bool
    test_greedy: bool
    log_interval: PositiveInt
    use_tensorboard: bool
    local_results_path: str | None
    use_wandb: bool = False
    wandb_project: str = "inspo"
    wandb_team: str | None = None
    wandb_mode: Literal["online", "offline"] = "online"
    use_mlflow: bool = False
    mlflow_experiment: str = "inspo"
    mlflow_tracking_uri: str | None = None
    group: str | None = None
    tags: list[str] = []

    save_model: bool
    save_model_interval: PositiveInt
    keep_checkpoints: Count
    checkpoint_path: str | None
    load_step: Count
    evaluate: bool

    # Where settings come from, for the log; see inspo.utils.resolve.
    _remarks: list[str] = PrivateAttr(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """Which section of the algorithm's YAML applies, and what the user's files set."""
        return self._remarks

    def with_remarks(self, remarks: list[str]) -> "RunConfig":
        """The same settings, with these remarks."""
        self._remarks = remarks
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_for_1(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes True for 1, as in `lr_decay_steps=True`, which means something else."""
        if isinstance(value, bool) and not _is_switch(cls, info.field_name):
            raise ValueError("must not be True or False")
        return value

    @field_validator("name")
    @classmethod
    def _one_line(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("must be one line of printable characters")
        return name

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not NAMES.fullmatch(device):
            raise ValueError("must be auto, cpu, cuda, cuda:N or mps")
        return device

    @field_validator("seed", mode="before")
    @classmethod
    def _one_seed(cls, seed: Any) -> Any:
        if isinstance(seed, (list, tuple)) or (isinstance(seed, str) and "," in seed):
            raise ValueError(
                "a run has one seed; run the command once for each, as in "
                "`for seed in 0 1 2; do python src/main.py ... with seed=$seed; done`, or all with "
                "`python src/sweep.py ... --seeds=0-2`"
            )
        return seed

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

    @model_validator(mode="after")
    def _check_chunks(self) -> "RunConfig":
        if self.chunk_length is not None and self.batch_unit != "episodes":
            raise ValueError("chunk_length cuts episodes: it needs batch_unit=episodes")
        return self


class BehaviourConfig(RunConfig):
    """For learners that first clone the dataset's behaviour, then keep the clone frozen."""

    behaviour_steps: PositiveInt
    behaviour_batch_size: BatchSize
    behaviour_lr: Positive
    init_from_behaviour: bool


class OnlineConfig(RunConfig):
    """For learners that play while they learn.

    Here t_max, the intervals and the x axis count environment steps.
    """

    n_parallel: Annotated[GameCount, Field(ge=1)]
    medium_score: float | None
    expert_score: float | None

    @model_validator(mode="before")
    @classmethod
    def _drop_dataset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The environment's YAML may name a dataset for offline runs. Online none is read."""
        env_args = values.get("env_args")
        if not isinstance(env_args, Mapping):
            return values
        return {**values, "env_args": {**env_args, "dataset": ""}}

    @field_validator(*OF_DATASETS)
    @classmethod
    def _refuse_what_needs_data(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in (None, False):
            raise ValueError(f"{OF_DATASETS[info.field_name]}; online runs have none")
        return value

    @model_validator(mode="after")
    def _check_whole_episodes(self) -> "OnlineConfig":
        if self.batch_unit != "episodes":
            raise ValueError("online runs learn from whole episodes: set batch_unit=episodes")
        if self.precision != "float32":
            raise ValueError("precision=bf16 is for offline runs; online runs need float32")
        return self


class ReplayConfig(OnlineConfig):
    """For online learners with a replay buffer, which play greedily with random actions."""

    buffer_size: PositiveInt
    updates_per_round: PositiveInt
    learning_starts: Count
    epsilon_start: Fraction
    epsilon_finish: Fraction
    epsilon_anneal_time: PositiveInt

    @model_validator(mode="after")
    def _check_buffer(self) -> "ReplayConfig":
        if self.buffer_size < self.n_parallel:
            raise ValueError(
                f"buffer_size={self.buffer_size} must hold a round of "
                f"n_parallel={self.n_parallel} episodes"
            )
        return self


class OnPolicyConfig(OnlineConfig):
    """For online learners that sample from their policy and learn from its newest episodes."""

    epochs: PositiveInt

    @field_validator("standardise_rewards")
    @classmethod
    def _refuse_scaled_rewards(cls, value: bool) -> bool:
        if value:
            raise ValueError("is for datasets and replay buffers; this learner keeps no rewards")
        return value


class ValueConfig(RunConfig):
    """For learners with value networks and soft targets."""

    critic_inputs: Literal["state", "obs", "both"]
    critic_hidden_dim: Width
    critic_lr: Positive
    tau: Fraction


@cache
def _is_switch(schema: type[BaseModel], name: str) -> bool:
    """Whether a setting may be True or False."""
    kinds = [schema.model_fields[name].annotation]
    for kind in kinds:  # grows by what the types consist of
        kinds += get_args(kind)
    return any(kind is bool or isinstance(kind, bool) for kind in kinds)


def available(kind: Literal["algs", "envs"]) -> dict[str, str]:
    """The algorithms or environments in the project's folder: names, and the first comments."""
    paths = sorted((CONFIG_DIR / kind).glob("*.yaml"))
    return {path.stem: _first_comment(path) for path in paths}


def _first_comment(path: Path) -> str:
    first_line = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first_line.lstrip("# ").strip() if first_line.startswith("#") else ""


def build(schema: type[Model], values: Mapping[str, Any]) -> Model:
    """A checked configuration from plain values.

    Raises:
        ConfigError: lists all values that are missing or wrong.
    """
    model, problems = value_problems(schema, values)
    if problems:
        lines = "\n  ".join(text for _, text in problems)
        raise ConfigError(f"wrong settings:\n  {lines}")
    return model


def value_problems(
    schema: type[Model], values: Mapping[str, Any]
) -> tuple[Model | None, list[tuple[str, str]]]:
    """A checked configuration, or (key, text) of all that is wrong with the values."""
    try:
        return schema(**values), []
    except ValidationError as error:
        return None, _describe(error)


def _describe(error: ValidationError) -> list[tuple[str, str]]:
    """One text for each wrong key. A key that may have several types has an error for each."""
    reasons: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    missing: list[str] = []
    for item in error.errors():
        key = str(item["loc"][0]) if item["loc"] else ""
        if item["type"] == "missing":
            missing.append(key)
            continue
        reasons.setdefault(key, []).append(item["msg"].removeprefix("Value error, "))
        if key:
            given[key] = f" (given: {shown(item['input'])})"
    problems = []
    for key, messages in reasons.items():
        prefix = f"{key}: " if key else ""
        problems.append((key, prefix + ", or: ".join(messages) + given.get(key, "")))
    if missing:
        text = f"missing: {', '.join(missing)}; `base: NAME` in a YAML takes them from that one"
        problems.append(("", text))
    return problems
