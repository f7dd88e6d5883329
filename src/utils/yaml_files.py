"""YAML files, read safely.

As `yaml.safe_load`, with these differences: `3e-4` is a number, a key with two different values is
rejected, and a file that would expand to very many values (by aliases of aliases) is rejected
before it does.
"""

import re
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from inspo.utils.errors import ConfigError
from inspo.utils.values import MAX_DEPTH

MERGE_TAG = "tag:yaml.org,2002:merge"
MAX_VALUES = 1_000_000  # aliases count as often as they occur


class _Loader(yaml.SafeLoader):
    """A SafeLoader that rejects duplicate keys, unless their values are the same.

    Merge keys (`<<`) may repeat what they merge.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {}, set())
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _problem(f"this is no valid {kind} ({error})", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[Any, yaml.Node] = {}
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        for key_node, value in pairs:
            if key_node.tag == MERGE_TAG:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must not be a list or a mapping", key_node)
            key = self.construct_object(key_node, deep=True)
            if key in seen and not _same(seen[key], value):
                raise _problem(f"key '{key}' is written twice, with different values", key_node)
            seen[key] = value
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read or holds no mapping. Names the file and the line.
    """
    try:
        with path.open("rb") as file:  # yaml finds out the encoding
            content = parse_yaml(file)
    except RecursionError:
        raise ConfigError(f"cannot read {path}: it is nested too deeply") from None
    except (yaml.YAMLError, OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    if content is None:
        raise ConfigError(f"{path} is empty; it must hold `key: value` lines")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold `key: value` lines; found {type(content).__name__}")
    return content


def parse_yaml(source: str | BinaryIO) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is no valid YAML.
        RecursionError: it is nested too deeply.
    """
    return yaml.load(source, Loader=_Loader)  # noqa: S506 - a SafeLoader


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], parents: set[int]) -> tuple:
    """The number of values and the depth of a node, aliases written out.

    Args:
        known: the results so far, by the nodes' ids.
        parents: the ids of the nodes around this one.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1, 1
    if id(node) in parents:
        raise _problem("an alias refers to what it is part of", node)
    if id(node) not in known:
        parents.add(id(node))
        entries = [_measure(entry, known, parents) for entry in _entries(node)]
        parents.remove(id(node))
        n_values = 1 + sum(size for size, _ in entries)
        depth = 1 + max((height for _, height in entries), default=0)
        if n_values > MAX_VALUES:
            raise _problem(f"with its aliases it holds more than {MAX_VALUES:,} values", node)
        if depth > MAX_DEPTH:
            raise _problem("it is nested too deeply", node)
        known[id(node)] = n_values, depth
    return known[id(node)]


def _same(first: yaml.Node, second: yaml.Node) -> bool:
    """Whether two nodes are the same word, as in EPyMARL's vdn.yaml, or one aliased node."""
    both_words = isinstance(first, yaml.ScalarNode) and isinstance(second, yaml.ScalarNode)
    if both_words:
        return (first.tag, first.value) == (second.tag, second.value)
    return first is second


def _entries(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value


def _problem(text: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
