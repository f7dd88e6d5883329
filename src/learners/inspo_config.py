"""InSPO's settings: which there are, their ranges, and what must fit together."""

from typing import Any, Literal

from pydantic import model_validator

from inspo.components.agent_order import OrderRule
from inspo.utils.config import (
    BehaviourConfig,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    ValueConfig,
)
from inspo.utils.rl_utils import exponential_decay


class InSPOConfig(BehaviourConfig, ValueConfig):
    """InSPO's own settings; `config/algs/inspo.yaml` explains each one."""

    order: OrderRule
    update_scheme: Literal["sequential", "simultaneous"]
    updates_per_agent: PositiveInt
    ratio: Literal["geometric", "plain"]
    log_ratio_min: float
    log_ratio_max: float

    cql_weight: NonNegative
    td_lambda: Fraction

    teammates_model: Literal["autoregressive", "chain"]
    policy_data: Literal["dataset", "resampled"]
    weight_max: Positive

    alpha: NonNegative | Literal["tuned"]
    alpha_start: Positive
    alpha_lr: Positive
    kl_target: NonNegative
    beta: NonNegative | Literal["decaying"]
    beta_start: Positive
    beta_end: Positive
    beta_decay_steps: PositiveInt | None

    def beta_after(self, update: int) -> float:
        """The entropy's temperature: constant, or decaying exponentially with the updates."""
        if self.beta != "decaying":
            return self.beta
        return exponential_decay(self.beta_start, self.beta_end, self.beta_decay_steps, update)

    @model_validator(mode="before")
    @classmethod
    def _no_decay_without_need(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("beta") == "decaying":
            return values
        return {**values, "beta_decay_steps": None}

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "InSPOConfig":
        if self.alpha == 0 and self.beta == 0:
            raise ValueError(
                "alpha and beta are both 0, and the policy's target divides by their sum; "
                "make one of them positive"
            )
        if self.beta == "decaying" and self.beta_decay_steps is None:
            raise ValueError("beta=decaying needs beta_decay_steps: a number, or t_max")
        if self.t_max % self.updates_per_agent:
            raise ValueError(
                f"t_max={self.t_max} must be a multiple of "
                f"updates_per_agent={self.updates_per_agent}"
            )
        if self.td_lambda and self.batch_unit != "episodes":
            raise ValueError(
                f"td_lambda={self.td_lambda} needs batch_unit=episodes: "
                "a single transition does not show what came next"
            )
        if self.log_ratio_min > self.log_ratio_max:
            raise ValueError(
                f"log_ratio_min={self.log_ratio_min} is above log_ratio_max={self.log_ratio_max}"
            )
        return self
