"""The registry of public datasets, and the list of all datasets that can be used here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspo.data.builtin_datasets import RECIPES, SCRIPTED, builtin_names
from inspo.data.formats import READERS, open_dataset
from inspo.data.policy_cards import card_of, cards, shipped_datasets
from inspo.envs import REGISTRY as ENVS
from inspo.envs import without_dataset
from inspo.utils.config import read_yaml, suggestion
from inspo.utils.errors import ConfigError, DatasetError
from inspo.utils.layers import read_shipped, shipped_names

REGISTRY_FILE = Path(__file__).with_name("known.yaml")


@dataclass(frozen=True)
class KnownDataset:
    """A public dataset of the registry `known.yaml`."""

    name: str  # source/env/scenario, or source
    about: str
    place: Path  # where it is unpacked, below dataset_root
    repository: str = ""  # on the Hugging Face Hub
    file: str = ""  # in the repository
    holds: tuple[str, ...] = ()
    size_mb: int | None = None
    sha256: str | None = None
    manual: str = field(default="", repr=False)  # how to get it where there is no repository

    def status(self, root: Path) -> str:
        """Whether it is below `root`, in a few words."""
        place = root / self.place
        if place.exists():
            return f"here: {place}"
        return "by hand: fetch says how" if self.manual else "not here"


def known_datasets() -> dict[str, KnownDataset]:
    """All entries of the registry by name."""
    found = {}
    for source, entry in read_yaml(REGISTRY_FILE).items():
        if "manual" in entry:
            found[source] = KnownDataset(
                source, entry["about"], Path(entry["place"]), manual=entry["manual"]
            )
            continue
        for env, scenarios in entry["datasets"].items():
            for scenario, details in scenarios.items():
                known = _hub_dataset(source, entry, env, scenario, details)
                found[known.name] = known
    return found


def _hub_dataset(
    source: str, entry: dict[str, Any], env: str, scenario: str, details: dict[str, Any]
) -> KnownDataset:
    names = {"source": source, "env": env, "scenario": scenario}
    return KnownDataset(
        name="/".join(names.values()),
        about=entry["about"],
        place=Path(entry["place"].format(**names)) / f"{scenario}.vlt",
        repository=entry["repository"],
        file=entry["file"].format(**names),
        holds=tuple(details.get("holds", ())),
        size_mb=details.get("size_mb"),
        sha256=details.get("sha256"),
    )


def lookup_known(name: str) -> KnownDataset:
    """The entry of that name.

    Raises:
        ConfigError: there is none. The message names the nearest one.
    """
    known = known_datasets()
    if name not in known:
        raise ConfigError(f"no known dataset is called '{name}'{suggestion(name, known)}")
    return known[name]


def listing(root: Path) -> str:
    """The text of `list`: built-in datasets, public ones, and all that are below `root`."""
    lines = ["Made by this project when first used (env_args.dataset=NAME):"]
    for environment, names in _builtin():
        lines.append(f"  {environment:<32}  {', '.join(names)}")
    lines += ["", f"Public datasets (fetch NAME puts them under {root}):"]
    for known in known_datasets().values():
        size = [f"about {known.size_mb} MB"] if known.size_mb else []
        about = ", ".join([*known.holds, *size]) or known.about
        lines.append(f"  {known.name:<32}{known.status(root):<26}  {about}")
    lines += ["", f"On this disk, under {root}:"]
    found = [f"  {path.relative_to(root)}  {about}" for path, about in on_disk(root)]
    return "\n".join(lines + (found or ["  nothing yet"]))


def _builtin() -> Iterator[tuple[str, list[str]]]:
    """The built-in datasets of each environment's YAML."""
    for environment in shipped_names("envs"):
        settings = read_shipped("envs", environment)
        if settings["env"] == "sc2":
            if "dataset" not in settings["env_args"]:  # online
                continue
            yield environment, [f"{SCRIPTED} (on SMAX, for each map)"]
            if card_of(settings["env_args"]["map_name"]) is None:  # random teams
                continue
            for card in cards():
                names = ", ".join(shipped_datasets(card))
                yield "", [f"{names} (on SMAX, {card['map_name']})"]
            continue
        if settings["env"] not in RECIPES:
            continue
        env = ENVS[settings["env"]](**without_dataset(settings["env_args"]))
        yield environment, builtin_names(settings["env"], env)
        env.close()


def on_disk(root: Path) -> Iterator[tuple[Path, str]]:
    """Every dataset below `root`, with a short description.

    Hidden files and folders are unfinished, and left out.
    """
    pending = [root] if root.is_dir() else []
    seen = set()  # links may form a circle
    while pending:
        folder = pending.pop()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            entries = sorted(folder.iterdir())
            is_dataset = folder != root and any(reader.recognises(folder) for reader in READERS)
        except OSError as error:
            yield folder, f"cannot be read: {error.strerror}"
            continue
        if is_dataset:
            yield folder, _description(folder)
            continue
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        pending += [entry for entry in reversed(entries) if entry.is_dir()]
        for file in entries:
            if file.suffix in (".h5", ".hdf5") and file.is_file():
                yield file, _description(file)


def _description(path: Path) -> str:
    try:
        with open_dataset(path) as reader:
            return f"{reader.n_episodes} episodes, {reader.layout}"
    except DatasetError as error:
        reason = str(error).removeprefix(f"{path}:").strip()
        return f"cannot be used: {reason.splitlines()[0]}"
