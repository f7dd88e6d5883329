"""When two runs are the same: equal settings, so that one need not be repeated."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from inspo.run.checkpoint import RECORD_SETTINGS


def identity(config: Mapping[str, Any]) -> str:
    """A hash of a run's settings, as config.json holds them."""
    kept = {key: value for key, value in config.items() if key not in RECORD_SETTINGS}
    text = json.dumps(kept, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
