"""Settings and names of PyMARL, EPyMARL and OffPyMARL: what they are called here, if at all.

`config/pymarl_names.yaml` holds the answers.
"""

from functools import cache
from pathlib import Path

from inspo.utils.yaml_files import read_yaml

FILE = Path(__file__).resolve().parents[1] / "config" / "pymarl_names.yaml"


def answer_to_key(key: str) -> str:
    """`; ...` with the answer to another project's key; empty if it is none that is known."""
    answer = _answers()["keys"].get(key)
    return f"; {answer}" if answer else ""


def answer_to_name(setting: str, name: str) -> str:
    """`; ...` with the answer to another project's name for the value of a setting."""
    answer = _answers()["names"].get(setting, {}).get(name)
    return f"; {answer}" if answer else ""


@cache
def _answers() -> dict:
    return read_yaml(FILE)
