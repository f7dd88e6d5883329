"""The YAML files of a run: which there are, what each one sets, and what wins.

Lowest precedence first:

    default.yaml
    environment, algorithm, and the algorithm's `per_env` section for it   as shipped
    environment, algorithm, and the algorithm's `per_env` section for it   as you wrote it
    the command line

An environment's YAML says by its key `per_env` which section of the algorithms fits, as in
`per_env: xor_offline`. No file's name matters.

A YAML with `base: NAME` holds only what differs from that one. A copy of a shipped YAML counts in
the same way: what you changed in it is yours, the rest is as shipped.
"""

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from inspo.utils.errors import ConfigError
from inspo.utils.names import TITLES, near_key, suggestion
from inspo.utils.pymarl_names import answer_to_name
from inspo.utils.values import plain, shown, shown_name
from inspo.utils.yaml_files import read_yaml

CONFIG_DIR = Path(__file__).resolve().parents[1] / "config"
Kind = Literal["algs", "envs"]
OPTIONS = {"algs": "--config", "envs": "--env-config"}
# What the project ships. Other YAMLs in its folders are their users' own.
SHIPPED: dict[Kind, list[str]] = {
    "algs": [*TITLES],
    "envs": [
        "bridge_offline",
        "data_only",
        "lbf",
        "lbf_offline",
        "mne_offline",
        "overcooked",
        "overcooked_offline",
        "rware",
        "rware_offline",
        "sc2",
        "sc2_gen_protoss",
        "sc2_gen_protoss_10_vs_10",
        "sc2_gen_protoss_10_vs_10_offline",
        "sc2_gen_protoss_offline",
        "sc2_gen_terran",
        "sc2_gen_terran_10_vs_10",
        "sc2_gen_terran_10_vs_10_offline",
        "sc2_gen_terran_offline",
        "sc2_gen_zerg",
        "sc2_gen_zerg_10_vs_10",
        "sc2_gen_zerg_10_vs_10_offline",
        "sc2_gen_zerg_offline",
        "sc2_offline",
        "simple_spread",
        "simple_spread_offline",
        "xor_offline",
    ],
}
LARGEST_NEIGHBOUR = 100_000  # bytes of a YAML beside the user's that is searched for `per_env`
Values = dict[str, Any]


@dataclass
class Source:
    """What one YAML sets, with all that it is based on."""

    label: str  # for messages, as `--config=inspo`
    shipped: Values = field(default_factory=dict)  # what the project ships
    own: Values = field(default_factory=dict)  # what its user wrote
    folders: list[Path] = field(default_factory=list)  # of the user's files
    shipped_label: str = ""  # for messages about `shipped`

    def __post_init__(self) -> None:
        self.shipped_label = self.shipped_label or self.label


def read_source(name: str, kind: Kind) -> Source:
    """The YAML of a shipped name, or at a path that ends in .yaml.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    return _read(name, kind, f"{OPTIONS[kind]}={shown_name(name)}", Path.cwd(), ())


def _read(name: str, kind: Kind, label: str, folder: Path, derived: tuple[Path, ...]) -> Source:
    """`derived`: the files that are based on this one, the outermost first."""
    path = _path_of(name, kind, label, folder)
    if path in derived:
        circle = " <- ".join(str(file) for file in (*derived, path))
        raise ConfigError(f"{label}: the files are based on each other: {circle}")
    if path.parent == CONFIG_DIR / kind and path.stem in SHIPPED[kind]:
        return Source(label, shipped=deepcopy(read_shipped(kind, path.stem)))
    values = plain(read_yaml(path))
    if "base" not in values:
        shipped, own = split(values, _original(values, kind))
        return Source(label, shipped, own, [path.parent])
    base = values.pop("base")
    if not isinstance(base, str):
        raise ConfigError(
            f"{label}: the key `base` must be the name or the path of a YAML, not {shown(base)}"
        )
    base_label = f"base: {shown_name(base)} of {path.name}"
    below = _read(base, kind, base_label, path.parent, (*derived, path))
    own = merge(below.own, values)
    folders = [path.parent, *below.folders]
    return Source(label, below.shipped, own, folders, f"{label}, by its base")


def _path_of(name: str, kind: Kind, label: str, folder: Path) -> Path:
    own = name.endswith((".yaml", ".yml"))
    path = folder / os.path.expanduser(name) if own else CONFIG_DIR / kind / f"{name}.yaml"
    try:
        if path.is_file():
            return path.resolve()
    except OSError as error:
        raise ConfigError(f"{label}: {error.strerror}") from None
    if own and path.is_dir():
        raise ConfigError(f"{label}: this is a folder")
    what = {"algs": "algorithm", "envs": "environment"}[kind]
    looked = f" (no file {shown_name(str(path))})" if own else ""
    raise ConfigError(f"{label}: there is no such {what}{looked}{_answer(name, kind)}")


def _answer(name: str, kind: Kind) -> str:
    """`; ...` with what may be meant by a name that is not shipped."""
    setting = OPTIONS[kind].removeprefix("--").replace("-", "_")
    stem, _, ending = name.rpartition(".") if name.endswith((".yaml", ".yml")) else (name, "", "")
    if answer := answer_to_name(setting, Path(stem).name):
        return answer
    if ending:
        return near_key(Path(stem).name, known_names(kind))
    if os.sep in name:
        return "; the path of a YAML must end in .yaml"
    return suggestion(name, known_names(kind))


def known_names(kind: Kind) -> list[str]:
    """The names of the YAMLs in the project's folder."""
    return sorted(path.stem for path in (CONFIG_DIR / kind).glob("*.yaml"))


def shipped_names(kind: Kind) -> list[str]:
    """The names of those of them that the project ships."""
    return sorted(SHIPPED[kind])


@cache
def defaults() -> Values:
    """The content of default.yaml, read once. Not to be changed."""
    return read_yaml(CONFIG_DIR / "default.yaml")


@cache
def read_shipped(kind: Kind, name: str) -> Values:
    """The content of a shipped YAML with its bases, read once. Not to be changed."""
    values = read_yaml(CONFIG_DIR / kind / f"{name}.yaml")
    base = values.pop("base", None)
    return values if base is None else merge(read_shipped(kind, base), values)


def sections_of(source: Source) -> tuple[Values, Values]:
    """The `per_env` sections of an algorithm's YAML, shipped and own; removed from `source`.

    `null` in the user's file removes what is shipped: one section, or all of them.

    Raises:
        ConfigError: they do not map environments to settings.
    """
    shipped = source.shipped.pop("per_env", {})
    own = source.own.pop("per_env", {})
    if own is None:
        return {}, {}
    if not isinstance(own, dict):
        raise ConfigError(
            f"per_env of {source.label} must map environments to settings, "
            f"as in `per_env: {{xor_offline: {{lr: 0.01}}}}`, not {shown(own)}"
        )
    for name, section in own.items():
        if section is not None and not isinstance(section, dict):
            raise ConfigError(
                f"per_env.{shown_name(name)} of {source.label} must map settings to values, "
                f"not {shown(section)}"
            )
    kept = {name: section for name, section in shipped.items() if own.get(name, {}) is not None}
    # What no shipped environment reads was added to a shipped YAML, for one of the user's.
    added = {name: kept.pop(name) for name in [*kept] if name not in shipped_sections()}
    return kept, merge(added, {name: section or {} for name, section in own.items()})


def section_name(source: Source) -> str | None:
    """Which section fits an environment: the key `per_env` of its YAML, removed from `source`.

    `null` in the user's file means none.
    """
    name = source.shipped.pop("per_env", None)
    if "per_env" in source.own:
        name = source.own.pop("per_env")
    if name is not None and not isinstance(name, str):
        raise ConfigError(
            f"per_env of {source.label} must name a section of the algorithms' per_env, "
            f"as in `per_env: xor_offline`, not {shown(name)}"
        )
    return name


def shipped_sections() -> set[str]:
    """The sections that shipped environments name."""
    shipped = [read_shipped("envs", name) for name in shipped_names("envs")]
    return {values["per_env"] for values in shipped if values.get("per_env") is not None}


def sections_beside(*sources: Source) -> set[str]:
    """The sections that environments in the project's folder and beside the user's YAMLs name."""
    folders = {CONFIG_DIR / "envs", *(folder for source in sources for folder in source.folders)}
    named = (_section_in(path) for folder in folders for path in folder.glob("*.y*ml"))
    return {name for name in named if isinstance(name, str)}


def _section_in(path: Path) -> Any:
    try:
        if path.is_file() and path.stat().st_size <= LARGEST_NEIGHBOUR:
            return read_yaml(path).get("per_env")
    except (ConfigError, OSError):  # some other YAML of the user's
        pass
    return None


def _original(values: Values, kind: Kind) -> Values:
    """The shipped YAML that `values` are a copy of: the one with most in common, or none."""
    key = {"algs": "learner", "envs": "env"}[kind]
    candidates = [read_shipped(kind, name) for name in shipped_names(kind)]
    same_class = [shipped for shipped in candidates if shipped.get(key) == values.get(key)]
    return max(same_class, key=lambda shipped: _n_leaves(split(values, shipped)[0]), default={})


def _n_leaves(values: Values) -> int:
    return sum(_n_leaves(v) if isinstance(v, dict) else 1 for v in values.values())


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


def merge(base: Mapping[str, Any], *updates: Mapping[str, Any]) -> Values:
    """`updates` over `base`, with nested mappings merged key by key. Changes no argument."""
    merged = deepcopy(dict(base))
    for update in updates:
        _merge_into(merged, update)
    return merged


def _merge_into(values: Values, update: Mapping[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge_into(values[key], value)
        else:
            values[key] = deepcopy(value)
