"""The registry of public datasets, and what of it, and of everything else, is on this disk."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inspo.data.builtin_datasets import SCRIPTED, builtin_names
from inspo.data.formats import READERS, open_dataset
from inspo.envs import REGISTRY as ENVS
from inspo.envs import without_dataset
from inspo.utils.config import CONFIG_DIR, available, read_yaml, suggestion
from inspo.utils.errors import ConfigError, DatasetError

REGISTRY_FILE = Path(__file__).with_name("known.yaml")


@dataclass(frozen=True)
class KnownDataset:
    """A public dataset, as `known.yaml` has it."""

    name: str  # source/env/scenario, or source
    about: str
    place: Path  # below dataset_root: what is there once it is fetched
    mirrors: tuple[str, ...] = ()
    file: str = ""  # below a mirror
    holds: tuple[str, ...] = ()
    size_mb: int | None = None
    sha256: str | None = None
    manual: str = field(default="", repr=False)


def known_datasets() -> dict[str, KnownDataset]:
    """All entries of the registry by name."""
    found = {}
    for source, entry in read_yaml(REGISTRY_FILE).items():
        common = {"about": entry["about"]}
        if "manual" in entry:
            found[source] = KnownDataset(
                source, place=Path(entry["place"]), manual=entry["manual"], **common
            )
            continue
        for env, scenarios in entry["datasets"].items():
            for scenario, details in scenarios.items():
                names = {"source": source, "env": env, "scenario": scenario}
                name = "/".join(names.values())
                found[name] = KnownDataset(
                    name,
                    place=Path(entry["place"].format(**names)) / f"{scenario}.vlt",
                    mirrors=tuple(entry["mirrors"]),
                    file=entry["file"].format(**names),
                    holds=tuple(details.get("holds", ())),
                    size_mb=details.get("size_mb"),
                    sha256=details.get("sha256"),
                    **common,
                )
    return found


def lookup_known(name: str) -> KnownDataset:
    """The entry of that name; ConfigError names the nearest."""
    known = known_datasets()
    if name not in known:
        raise ConfigError(f"no known dataset is called '{name}'{suggestion(name, known)}")
    return known[name]


def listing(root: Path) -> str:
    """The text of `list`: what environments make, what can be fetched, and every dataset below `root`."""
    lines = ["Made by this project when first asked for (env_args.dataset=NAME):"]
    lines += [f"  {environment:<20}{', '.join(names)}" for environment, names in _made_here()]
    lines += ["", f"Public datasets (fetch NAME puts them under {root}):"]
    for known in known_datasets().values():
        here = root / known.place
        status = (
            f"here: {here}"
            if here.exists()
            else "by hand: fetch says how"
            if known.manual
            else "not here"
        )
        size = [f"about {known.size_mb} MB"] if known.size_mb else []
        about = ", ".join([*known.holds, *size]) or known.about
        lines.append(f"  {known.name:<32}{status:<26}  {about}")
    lines += ["", f"On this disk, under {root}:"]
    found = [f"  {path.relative_to(root)}  {about}" for path, about in on_disk(root)]
    return "\n".join(lines + (found or ["  nothing yet"]))


def on_disk(root: Path) -> Iterator[tuple[Path, str]]:
    """Every dataset below `root` and a few words about it. Hidden folders are unfinished work and left out."""
    pending = [root] if root.is_dir() else []
    seen = set()  # a link may lead back to where it came from
    while pending:
        folder = pending.pop()
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
            is_dataset = folder != root and any(reader.recognises(folder) for reader in READERS)
        except OSError as error:
            yield folder, f"cannot be read: {error.strerror}"
            continue
        if is_dataset:
            yield folder, _in_few_words(folder)
            continue
        pending += [entry for entry in reversed(entries) if entry.is_dir()]
        for file in entries:
            if file.suffix in (".h5", ".hdf5") and file.is_file():
                yield file, _in_few_words(file)


def _in_few_words(path: Path) -> str:
    try:
        with open_dataset(path) as reader:
            return f"{reader.n_episodes} episodes, {reader.layout}"
    except DatasetError as error:
        return f"cannot be used: {str(error).removeprefix(f'{path}:').strip().splitlines()[0]}"


def _made_here() -> Iterator[tuple[str, list[str]]]:
    """The built-in datasets of each shipped environment YAML."""
    for environment in available("envs"):
        settings = read_yaml(CONFIG_DIR / "envs" / f"{environment}.yaml")
        if settings["env"] == "sc2":
            if "dataset" in settings["env_args"]:
                yield environment, [f"{SCRIPTED} (on SMAX, for each map)"]
            continue
        env = ENVS[settings["env"]](**without_dataset(settings["env_args"]))
        yield environment, builtin_names(settings["env"], env)
        env.close()
