"""The words after `with` on the command line: `key=value`, as a nested mapping."""

import ast
import warnings
from collections.abc import Sequence
from typing import Any

import yaml

from inspo.utils.errors import ConfigError
from inspo.utils.layers import merge
from inspo.utils.values import shown_name
from inspo.utils.yaml_files import parse_yaml

YAML_WORDS = {"null", "Null", "NULL", "~", "true", "True", "TRUE", "false", "False", "FALSE"}
BRACKETS = {"[": "]", "{": "}"}


def parse_words(words: Sequence[str]) -> dict[str, Any]:
    """Turns `key=value` words into a nested mapping. Later words are merged over earlier ones.

    Dots nest: `env_args.dataset=b`. Values are Python's or YAML's: `null` and `None` become None,
    `[0, 1]` a list, `{a: 1}` and `{'a': 1}` a mapping. Everything else is text.

    Raises:
        ConfigError: words do not have that form. Names all of them.
    """
    updates: dict[str, Any] = {}
    problems = []
    for word in words:
        key, equals, value = word.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals:
            problems.append(f"'{shown_name(word)}' after `with` is not of the form key=value")
        elif not all(names):
            problems.append(f"'{shown_name(word)}' after `with` lacks the name of a setting")
        else:
            updates = merge(updates, nested(names, parse_value(value.strip())))
    if problems:
        raise ConfigError("; ".join(problems))
    return updates


def as_word(key: str, value: Any) -> str:
    """The word that `parse_words` turns into this setting."""
    text = str(value)
    is_plain = isinstance(value, str) and parse_value(text) == text and text == text.strip()
    return f"{key}={text}" if is_plain else f"{key}={value!r}"


def nested(names: Sequence[str], value: Any) -> dict[str, Any]:
    """`{a: {b: value}}` for the names a and b."""
    for name in reversed(names):
        value = {name: value}
    return value


def parse_value(text: str) -> Any:
    """The value that a word's text stands for. Nothing in it is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd syntax, as in `1if`
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    in_brackets = text[:1] in BRACKETS and text.endswith(BRACKETS[text[0]])
    if text not in YAML_WORDS and not in_brackets:
        return text
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, RecursionError):
        return text
