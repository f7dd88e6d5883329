"""Addresses on the net, where a path on this machine is needed."""

import os
import re
from pathlib import Path

from inspo.utils.errors import ConfigError

# A Path has lost one of the two slashes. One letter before the colon is a drive of Windows.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def refuse_address(path: str | os.PathLike) -> None:
    """Raises ConfigError for `https://...`, `s3://...` and the like.

    They would not be found or, where a folder is written, be made as a folder called `https:`.
    """
    text = str(path)
    if SCHEME.match(text) and not Path(text).exists():
        address = SCHEME.sub(r"\1://", text, count=1)
        raise ConfigError(
            f"{address}: this is an address; a path on this machine is needed. Download what is "
            "there, or mount it, and give its path"
        )
