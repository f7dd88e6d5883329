"""When two runs are the same: equal settings, so that one need not be repeated."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Settings that change neither a number nor a record of the run.
NEUTRAL = {
    "checkpoint_path",
    "load_step",
    "local_results_path",
    "dataset_root",
    "save_model",
    "save_model_interval",
    "keep_checkpoints",
    "use_tensorboard",
    "require_simulator",
    "group",
    "tags",
    "use_wandb",
    "wandb_project",
    "wandb_team",
    "wandb_mode",
    "use_mlflow",
    "mlflow_experiment",
    "mlflow_tracking_uri",
}


def identity(config: Mapping[str, Any]) -> str:
    """A hash of a run's settings, as config.json holds them."""
    kept = {key: value for key, value in config.items() if key not in NEUTRAL}
    text = json.dumps(kept, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
