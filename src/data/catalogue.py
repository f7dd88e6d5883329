"""Finds the dataset that a setting names, and makes built-in ones.

dataset_root/ENVIRONMENT/NAME.h5          collected by src/collect.py
dataset_root/ENVIRONMENT/NAME-HASH.h5     built in; the hash is of the game's settings
dataset_root/sc2/SIMULATOR/MAP/NAME.h5    battles, collected or scripted; MAP as in game_labels
dataset_root/sc2/smax/MAP/scripted-scaleX.h5
                                          scripted, with env_args.reward_scale=X
dataset_root/sc2/smax/MAP/NAME-shipped-HASH.h5
                                          battles by policies that come with the project
dataset_root/ENV/KEY/NAME.h5              PettingZoo's and Gymnasium's environments, collected
"""

import hashlib
import json
import logging
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from filelock import FileLock, Timeout

from inspo.data.builtin_datasets import (
    RECIPE_VERSION,
    SCRIPTED,
    builtin_names,
    make_builtin,
    record_script,
)
from inspo.data.episode_data import EpisodeData
from inspo.data.formats import find_public, load_dataset, public_datasets, write_h5
from inspo.data.magnitudes import largest, remarks
from inspo.data.policy_cards import HESITANT, SHIPPED, card_of, shipped_datasets
from inspo.data.tools.published import warnings_for
from inspo.envs import EnvInfo, MultiAgentEnv, game_labels, without_dataset
from inspo.envs.sc2 import ON_STARCRAFT
from inspo.envs.sc2.smax import REWARD_SCALE, SMAX
from inspo.envs.sc2.starcraft_install import starcraft_problem
from inspo.utils.addresses import refuse_address
from inspo.utils.config import RunConfig, suggestion
from inspo.utils.errors import ConfigError, DatasetError
from inspo.utils.files import storage_errors, writable_dataset_root

# Datasets of trained policies. `auto` takes the first that exists.
QUALITIES = ("medium", "medium-replay", "mixed", "expert")
RANDOM = "random"  # as collect.py names it
WITHOUT_PLAYING = "env_args.simulator=starcraft2 test_nepisode=0 trains on it without playing"
log = logging.getLogger(__name__)


class Recorder(NamedTuple):
    """A dataset that can be recorded when it is first needed."""

    stem: str  # of its file; it changes with the content
    record: Callable[[Path], None]


def dataset_path(args: RunConfig, root: Path, name: str) -> Path:
    """The file of the dataset `name` of the settings' environment, which need not exist."""
    if args.env == "sc2":
        return root.joinpath("sc2", *game_labels(args.env_args).values(), f"{name}.h5")
    if "key" in args.env_args:
        key = re.sub(r"[^\w.+-]", "-", str(args.env_args["key"]))
        return root / args.env / key / f"{name}.h5"
    return root / args.env_config / f"{name}.h5"


def resolve_dataset(args: RunConfig, root: Path) -> RunConfig:
    """Replaces `env_args.dataset=auto`, which battles have, by a dataset's name.

    Evaluations need no dataset, so `auto` stays.

    Raises:
        DatasetError: there is no dataset to choose.
    """
    if args.env != "sc2" or args.env_args["dataset"] != "auto" or args.evaluate:
        return args
    there = [quality for quality in QUALITIES if _kept(args, root, quality)]
    if there:
        name = there[0]
        log.info("env_args.dataset=auto: '%s', the first of %s", name, ", ".join(there))
    elif args.env_args["simulator"] in ON_STARCRAFT:
        raise _missing_battles(args, root, "auto")
    else:
        made = _made_when_needed(args.env_args["map_name"])
        name = next(one for one in (HESITANT, "medium", SCRIPTED) if one in made)
        _warn_of_public(args, root, QUALITIES)
        others = ", ".join(QUALITIES)
        log.info("env_args.dataset=auto: '%s': none of %s was collected", name, others)
    return args.model_copy(update={"env_args": {**args.env_args, "dataset": name}})


def find_dataset(
    args: RunConfig,
    env: MultiAgentEnv | None,
    root: Path,
    recorders: Mapping[str, Recorder] = MappingProxyType({}),
) -> EpisodeData:
    """Loads `env_args.dataset`: the name of a collected or built-in dataset, or a path.

    A collected dataset comes before a built-in one of the same name.

    Args:
        env: None if there is no simulator. Built-in datasets can then not be made.
        recorders: further datasets of this game.

    Raises:
        ConfigError: it is neither a known name nor a path.
        DatasetError: the dataset cannot be used.
    """
    name = args.env_args["dataset"]
    if not name:
        raise ConfigError(
            f"{args.name} learns offline, and --env-config={args.env_config} names no dataset; "
            "give env_args.dataset=NAME, or an environment with one, as --env-config=sc2_offline"
        )
    with storage_errors(Path(name)):
        path = _kept(args, root, name)
        # The script's file has the place of a collected one.
        made = path is None or (name == SCRIPTED and isinstance(env, SMAX))
        if path is None and env is not None and name in builtin_names(args.env, env):
            path = _built_in(args, env, root, name)
        if path is None and name in recorders:
            _warn_of_public(args, root, [name])
            path = _recorded(args, root, recorders[name])
        if path is None and Path(name).exists():
            path, made = Path(name), False
    if path is None:
        raise _missing(args, env, root, name, recorders)
    try:
        data = load_dataset(path, args.max_episodes, args.reward_scalarisation)
    except DatasetError as error:
        again = "\nIf the file is damaged, delete it: it is made when it is needed" if made else ""
        raise DatasetError(f"{error}{again}") from None
    if isinstance(env, SMAX):
        _check_battles(data, args, env)
    _remark(data, path, args)
    return data


def _warn_of_public(args: RunConfig, root: Path, names: Iterable[str]) -> None:
    """Logs which datasets of StarCraft II SMAX's are taken instead of."""
    for name in names:
        if public := find_public(root, args.env_args["map_name"], name):
            log.warning("%s is of StarCraft II, not of SMAX; %s", public, WITHOUT_PLAYING)


def _remark(data: EpisodeData, path: Path, args: RunConfig) -> None:
    """Logs what is unusual about a dataset: at most one line for each kind."""
    if data.metadata.get("full_state_script"):
        log.warning(
            "%s: by the script of version 0.1, which sees the whole state; delete the file, and it "
            "is recorded anew",
            path,
        )
    sizes = largest(data)
    if args.standardise_rewards:
        sizes["reward"] = 1.0
    if args.standardise_obs:
        sizes |= {"obs": 1.0, "state": 1.0}
    if found := list(remarks(sizes)):
        log.warning("%s: %s", path, "; ".join(found))
    if args.max_episodes is None:
        for text in warnings_for(path, data.lengths, data.returns):
            log.warning("%s: %s", path, text)


def _kept(args: RunConfig, root: Path, name: str) -> Path | None:
    """The file of a collected dataset or, on StarCraft II, another project's dataset."""
    if Path(name).name != name:
        return None
    if (path := dataset_path(args, root, _stem(args, name))).is_file():
        return path
    if args.env_args.get("simulator") in ON_STARCRAFT:
        return find_public(root, game_labels(args.env_args)["map_name"], name)
    return None


def _stem(args: RunConfig, name: str) -> str:
    """Of a dataset's file. With rewards of another scale, the script's dataset is another one."""
    scale = args.env_args.get("reward_scale")
    of_script = name == SCRIPTED and args.env_args.get("simulator") == "smax"
    if not of_script or not isinstance(scale, int | float) or scale == REWARD_SCALE:
        return name
    return f"{name}-scale{scale:g}"


def _recorded(args: RunConfig, root: Path, recorder: Recorder) -> Path:
    """The file of a recorder's dataset, recorded now if it is not there."""
    path = dataset_path(args, root, recorder.stem)
    _record_once(path, root, recorder.record)
    return path


def _record_once(path: Path, root: Path, record: Callable[[Path], None]) -> None:
    """Records a file unless it is there. Of several runs at once, one records."""
    if path.exists():
        return
    writable_dataset_root(root)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f".{path.stem}.lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process is recording it; waiting", path)
            held = lock.acquire()
        with held:
            if not path.exists():
                record(path)


def _built_in(args: RunConfig, env: MultiAgentEnv, root: Path, name: str) -> Path:
    """The file of a built-in dataset, made now if it is not there."""
    if isinstance(env, SMAX):
        path = dataset_path(args, root, _stem(args, name))
        env_args = without_dataset(args.env_args)
        _record_once(path, root, lambda path: record_script(path, env, args.env, env_args))
        return path
    path = root / args.env_config / f"{name}-{_settings_hash(args, name)}.h5"
    if not path.exists():
        writable_dataset_root(root)
        log.info("Making dataset '%s' of %s", name, args.env_config)
        data = make_builtin(args.env, env, name, str(path), args.env_args)
        # If another run was faster, its file is the same.
        with suppress(FileExistsError):
            write_h5(data, path)
    return path


def _settings_hash(args: RunConfig, name: str) -> str:
    """A hash of the game's settings and of the dataset's description in the YAML."""
    settings = {
        key: value for key, value in args.env_args.items() if key not in ("dataset", "datasets")
    }
    datasets = args.env_args.get("datasets") or {}
    descriptions = {str(key): value for key, value in datasets.items()}
    settings["recipe"] = [RECIPE_VERSION, descriptions.get(name)]
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def _check_battles(data: EpisodeData, args: RunConfig, env: SMAX) -> None:
    """Raises DatasetError, with the likely reason, if the sizes are not those of SMAX's map."""
    try:
        data.check_env(EnvInfo(**env.get_env_info()))
    except DatasetError as error:
        reason = f"Recorded on StarCraft II? SMAX cannot play that; {WITHOUT_PLAYING}"
        if data.metadata.get("simulator") == env.simulator:
            elsewhere = data.made_elsewhere(args.env, args.env_args, env.provenance())
            reason = f"It was recorded elsewhere: {elsewhere}"
        raise DatasetError(f"{error}. {reason}") from None


def _missing(
    args: RunConfig,
    env: MultiAgentEnv | None,
    root: Path,
    name: str,
    recorders: Mapping[str, Recorder],
) -> ConfigError | DatasetError:
    refuse_address(name)
    if args.env == "sc2":
        return _missing_battles(args, root, name, recorders)
    builtin = builtin_names(args.env, env) if env is not None else []
    folder = dataset_path(args, root, name).parent
    files = _names_in(folder)
    collected = [file for file in files if file.rpartition("-")[0] not in builtin]
    names = builtin + collected
    known = suggestion(name, names) if names else ""
    where = f" (in {folder})" if Path(name).name == name else ""
    return ConfigError(
        f"env_args.dataset={name}: neither a dataset of {args.env_config}{where} "
        f"nor an existing path{known}"
    )


def _names_in(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.h5"))


def _made_when_needed(map_name: str) -> set[str]:
    """The datasets of a map that SMAX makes when they are first needed."""
    card = card_of(map_name)
    return {SCRIPTED} if card is None else {SCRIPTED, *shipped_datasets(card)}


def _missing_battles(
    args: RunConfig, root: Path, name: str, recorded: Iterable[str] = ()
) -> DatasetError:
    """
    Args:
        recorded: the names of datasets that would be recorded.
    """
    folder = dataset_path(args, root, name).parent
    names = [*_names_in(folder), *recorded]
    own_root = f" dataset_root={shlex.quote(args.dataset_root)}" if args.dataset_root else ""
    on_smax = args.env_args["simulator"] == "smax"
    problem = _missing_on_smax if on_smax else _missing_on_starcraft
    return DatasetError(
        f"env_args.dataset={name}: {problem(args, root, name, folder, names, own_root)}"
    )


def _missing_on_smax(
    args: RunConfig, root: Path, name: str, folder: Path, names: list[str], own_root: str
) -> str:
    map_name = args.env_args["map_name"]
    if name in _made_when_needed(map_name):
        # With SMAX it would have been made.
        why = "and without SMAX none can be made"
        if recordings := sorted(folder.glob(f"{name}{SHIPPED}*.h5")):
            why += f"; {recordings[-1]} was made with it: give its path"
        return f"not in {folder}, {why}"
    known = suggestion(name, {*(one for one in names if SHIPPED not in one), SCRIPTED})
    public = find_public(root, map_name, name)
    elsewhere = f". {public} is of StarCraft II: {WITHOUT_PLAYING}" if public else ""
    if name in (*QUALITIES, HESITANT):
        elsewhere += f". The project has no policies of {map_name} that play it"
    settings = f"with env_args.simulator=smax env_args.map_name={map_name}{own_root}"
    if name in QUALITIES:
        elsewhere += (
            "; this trains some, and records it if they reach its score: "
            f"python src/collect.py --env-config=sc2 {settings}"
        )
    if name == RANDOM:
        elsewhere += (
            f". This records it: python src/collect.py --random --env-config=sc2 --name={name} "
            f"{settings}"
        )
    where = f"neither in {folder} nor" if Path(name).name == name else "not"
    return f"{where} an existing path{known}{elsewhere}"


def _missing_on_starcraft(
    args: RunConfig, root: Path, name: str, folder: Path, names: list[str], own_root: str
) -> str:
    map_name = game_labels(args.env_args)["map_name"]
    collect = f"--env-config=sc2 with env_args.map_name={map_name}{own_root}"
    if args.env_args["simulator"] == "smacv2":
        collect = f"--env-config={args.env_config.removesuffix('_offline')}"
        collect += f" with{own_root}" if own_root else ""
    names = [*names, *(quality for quality, _ in public_datasets(root, map_name))]
    known = suggestion(name, {*names}) if names else ""
    missing = starcraft_problem(ON_STARCRAFT[args.env_args["simulator"]].package)
    game = f"\nStarCraft II itself is not there either: {missing}" if missing else ""
    return (
        f"there is no such dataset of StarCraft II's {map_name} in {folder}{known}. "
        "Two ways to get one:\n"
        f"  record your own:  python src/collect.py {collect}\n"
        "  get a public one:  CFCQL's, OffPyMARL's or OG-MARL's, somewhere below "
        f"{root}; python src/dataset.py fetch --help shows how\n"
        "env_args.simulator=smax trains on a dataset that is made in a minute, and plays SMAX"
        f"{game}"
    )
