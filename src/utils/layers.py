"""The YAML files of a run: which there are, what each one sets, and what wins.

Lowest precedence first:

    default.yaml
    environment, algorithm, and the algorithm's `per_env` section for it   as shipped
    environment, algorithm, and the algorithm's `per_env` section for it   as you wrote it
    the command line

An environment's YAML says by its key `per_env` which section of the algorithms fits, as in
`per_env: xor_offline`. No file's name matters.

A YAML of your own with `base: NAME` holds only what differs from that one. A copy of a shipped YAML
counts in the same way: what you changed in it is yours, the rest is as shipped.
"""

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from inspo.utils.errors import ConfigError
from inspo.utils.names import suggestion
from inspo.utils.yaml_files import read_yaml

CONFIG_DIR = Path(__file__).resolve().parents[1] / "config"
Kind = Literal["algs", "envs"]
OPTIONS = {"algs": "--config", "envs": "--env-config"}
Values = dict[str, Any]


@dataclass
class Source:
    """What one YAML sets, with all that it is based on."""

    label: str  # for messages, as `--config=inspo`
    shipped: Values = field(default_factory=dict)  # what the project ships
    own: Values = field(default_factory=dict)  # what its user wrote
    folders: list[Path] = field(default_factory=list)  # of the user's files

    def take(self, key: str, default: Any = None) -> tuple[Any, Any]:
        """Removes a key; returns its shipped and its own value."""
        return self.shipped.pop(key, default), self.own.pop(key, default)


def read_source(name: str, kind: Kind) -> Source:
    """The YAML of a shipped name, or at a path that ends in .yaml.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    return _read(name, kind, f"{OPTIONS[kind]}={name}", Path.cwd(), ())


def _read(name: str, kind: Kind, label: str, folder: Path, derived: tuple[Path, ...]) -> Source:
    """`derived`: the files that are based on this one, the outermost first."""
    path = _path_of(name, kind, label, folder)
    if path in derived:
        circle = " <- ".join(str(file) for file in (*derived, path))
        raise ConfigError(f"{label}: the files are based on each other: {circle}")
    if path.parent == CONFIG_DIR / kind:
        return Source(label, shipped=deepcopy(read_shipped(kind, path.stem)))
    values = read_yaml(path)
    if "base" not in values:
        shipped, own = split(values, _original(values, kind))
        return Source(label, shipped, own, [path.parent])
    base = values.pop("base")
    if not isinstance(base, str):
        raise ConfigError(f"{label}: base must be the name or the path of a YAML, not {base!r}")
    below = _read(base, kind, f"base: {base} of {path.name}", path.parent, (*derived, path))
    own = merge(below.own, values)
    return Source(label, below.shipped, own, [path.parent, *below.folders])


def _path_of(name: str, kind: Kind, label: str, folder: Path) -> Path:
    own = name.endswith((".yaml", ".yml"))
    path = folder / os.path.expanduser(name) if own else CONFIG_DIR / kind / f"{name}.yaml"
    if not path.is_file():
        what = {"algs": "algorithm", "envs": "environment"}[kind]
        known = shipped_names(kind)
        raise ConfigError(f"{label}: there is no such {what}{suggestion(name, known)}")
    return path.resolve()


def shipped_names(kind: Kind) -> list[str]:
    """The names of the YAMLs that the project ships."""
    return sorted(path.stem for path in (CONFIG_DIR / kind).glob("*.yaml"))


@cache
def read_shipped(kind: Kind, name: str) -> Values:
    """The content of a shipped YAML, read once. Not to be changed."""
    return read_yaml(CONFIG_DIR / kind / f"{name}.yaml")


def sections_of(source: Source) -> tuple[Values, Values]:
    """The `per_env` sections of an algorithm's YAML, shipped and own; removed from `source`.

    Raises:
        ConfigError: they do not map environments to settings.
    """
    shipped, own = source.take("per_env")
    for sections in (shipped, own):
        if sections is None:
            continue
        mappings = isinstance(sections, dict) and all(
            isinstance(section, dict) for section in sections.values()
        )
        if not mappings:
            raise ConfigError(f"per_env of {source.label} must map environments to settings")
    return shipped or {}, own or {}


def section_name(source: Source) -> str | None:
    """Which section fits an environment: the key `per_env` of its YAML, removed from `source`."""
    shipped, own = source.take("per_env")
    name = own if own is not None else shipped
    if name is not None and not isinstance(name, str):
        raise ConfigError(
            f"per_env of {source.label} must name a section of the algorithms' per_env, "
            f"as in `per_env: xor_offline`, not {name!r}"
        )
    return name


def shipped_sections() -> set[str]:
    """The sections that shipped environments name."""
    return {read_shipped("envs", name)["per_env"] for name in shipped_names("envs")}


def sections_beside(*sources: Source) -> set[str]:
    """The sections that environments in the folders of the user's YAMLs name."""
    folders = {folder for source in sources for folder in source.folders}
    named = (_section_in(path) for folder in folders for path in folder.glob("*.y*ml"))
    return {name for name in named if isinstance(name, str)}


def _section_in(path: Path) -> Any:
    try:
        return read_yaml(path).get("per_env")
    except ConfigError:  # some other YAML of the user's
        return None


def _original(values: Values, kind: Kind) -> Values:
    """The shipped YAML that `values` are a copy of: the one with most in common, or none."""
    key = {"algs": "learner", "envs": "env"}[kind]
    candidates = [read_shipped(kind, name) for name in shipped_names(kind)]
    same_class = [shipped for shipped in candidates if shipped.get(key) == values.get(key)]
    return max(same_class, key=lambda shipped: _n_equal(values, shipped), default={})


def _n_equal(values: Values, shipped: Values) -> int:
    return sum(1 for _ in _leaves(split(values, shipped)[0]))


def _leaves(values: Values) -> Iterator[Any]:
    for value in values.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def split(values: Mapping[str, Any], shipped: Mapping[str, Any]) -> tuple[Values, Values]:
    """What `values` have in common with `shipped`, and what they have otherwise; key by key."""
    same, different = {}, {}
    for key, value in values.items():
        original = shipped.get(key)
        if isinstance(value, Mapping) and isinstance(original, Mapping):
            parts = split(value, original)
            same[key], different[key] = parts
        elif key in shipped and type(value) is type(original) and value == original:
            same[key] = value
        else:
            different[key] = value
    return _without_empty(same, values), _without_empty(different, values)


def _without_empty(part: Values, whole: Mapping[str, Any]) -> Values:
    """Drops the mappings of which nothing went into this part, unless they are empty themselves."""
    return {key: value for key, value in part.items() if value != {} or whole[key] == {}}


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> Values:
    """`update` over `base`, with nested mappings merged key by key. Changes neither argument."""
    merged = deepcopy(dict(base))
    for key, value in update.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else deepcopy(value)
    return merged
