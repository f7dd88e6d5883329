"""Datasets of battles: where they are kept, which of them `auto` means, and the one that SMAX makes by itself.

A simulator's datasets of a map are in sc2/SIMULATOR/MAP/NAME.h5 of the dataset root.
"""

import logging
import sys
from itertools import islice
from pathlib import Path

from filelock import FileLock

from components.episode_data import EpisodeData
from components.formats import EpisodeWriter, find_foreign, load_dataset
from envs import EnvInfo, MultiAgentEnv
from envs.sc2.scripted import ScriptedPolicy
from envs.sc2.smax import SMAX
from envs.sc2.starcraft_install import installed
from runners.batch_runner import BatchRunner
from utils.config import RunConfig, suggestion
from utils.errors import DatasetError
from utils.progress import Progress

QUALITIES = ("medium", "medium-replay", "mixed", "expert")  # of trained policies; `auto` takes the first that is there
SCRIPTED = "scripted"
WITHOUT_PLAYING = "env_args.simulator=starcraft2 test_nepisode=0 trains on it without playing"
EPISODES = 2000
N_LANES = 32  # a part of what fixes the content; as many as an evaluation has by default: they share what is compiled
HESITATION = (0.0, 0.5, 0.7, 0.9)  # most decisions in the data are to stand still: imitating them wins nothing
RANDOM_ACTIONS = 0.05
SEED = 0  # the same dataset on every machine and for every run's seed
log = logging.getLogger(__name__)


def dataset_path(args: RunConfig, root: Path, name: str) -> Path:
    """Where the dataset `name` of the settings' simulator and map is kept."""
    return root / "sc2" / args.env_args["simulator"] / args.env_args["map_name"] / f"{name}.h5"


def resolve_dataset(args: RunConfig, root: Path) -> str:
    """The dataset that `auto` means: the first of QUALITIES that is there, else the script's.

    Raises:
        DatasetError: on StarCraft II, none is there.
    """
    there = [quality for quality in QUALITIES if _existing(args, root, quality)]
    if not there and args.env_args["simulator"] == "starcraft2":
        raise _missing(args, root, "auto")
    if not there:
        for foreign in filter(None, (find_foreign(root, args.env_args["map_name"], name) for name in QUALITIES)):
            log.warning("%s is of StarCraft II and not used on SMAX; %s", foreign, WITHOUT_PLAYING)
        log.info("env_args.dataset=auto: '%s', for there is none of %s", SCRIPTED, ", ".join(QUALITIES))
        return SCRIPTED
    log.info("env_args.dataset=auto: '%s', the first of %s", there[0], ", ".join(there))
    return there[0]


def find_dataset(args: RunConfig, env: MultiAgentEnv | None, root: Path) -> EpisodeData:
    """Loads `env_args.dataset`: the name of one that is there, a path, or `scripted`, which SMAX makes if need be.

    Args:
        env: None where the simulator is missing: nothing can be made then.

    Raises:
        DatasetError: there is none, or it cannot be used.
    """
    name = args.env_args["dataset"]
    if not name:
        raise DatasetError(
            f"{args.name} learns offline, and --env-config={args.env_config} names no dataset: "
            "--env-config=sc2_offline does, or env_args.dataset=NAME"
        )
    path = _existing(args, root, name)
    if path is None and Path(name).exists():
        path = Path(name)
    if path is None and name == SCRIPTED and isinstance(env, SMAX):
        path = dataset_path(args, root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{name}.lock"):  # of several runs that start at once, one records
            if not path.exists():
                _record_script(path, args, env)
    if path is None:
        raise _missing(args, root, name)
    data = load_dataset(path, args.max_episodes)
    if isinstance(env, SMAX):
        try:
            data.check_env(EnvInfo(**env.get_env_info()))
        except DatasetError as error:
            if data.metadata.get("simulator") == env.simulator:
                why = f"It was recorded elsewhere: {data.made_elsewhere(args.env, args.env_args, env.provenance())}"
            else:
                why = f"Recorded on StarCraft II? SMAX cannot play that; {WITHOUT_PLAYING}"
            raise DatasetError(f"{error}. {why}") from None
    return data


def _existing(args: RunConfig, root: Path, name: str) -> Path | None:
    """Our own dataset of that name or, on StarCraft II, another project's."""
    if (path := dataset_path(args, root, name)).is_file():
        return path
    return find_foreign(root, args.env_args["map_name"], name) if args.env_args["simulator"] == "starcraft2" else None


def _missing(args: RunConfig, root: Path, name: str) -> DatasetError:
    folder = dataset_path(args, root, name).parent
    there = sorted(path.stem for path in folder.glob("*.h5"))
    if args.env_args["simulator"] == "smax":
        if name == SCRIPTED:  # or it would have been made
            return DatasetError(f"env_args.dataset={name}: not in {folder}, and without SMAX none can be made")
        known = suggestion(name, {*there, SCRIPTED})
        foreign = find_foreign(root, args.env_args["map_name"], name)
        elsewhere = f". {foreign} is of StarCraft II: {WITHOUT_PLAYING}" if foreign else ""
        return DatasetError(f"env_args.dataset={name}: neither in {folder} nor an existing path{known}{elsewhere}")
    map_name, missing = args.env_args["map_name"], installed()
    return DatasetError(
        f"env_args.dataset={name}: there is no such dataset of StarCraft II's {map_name} in {folder}"
        f"{suggestion(name, there) if there else ''}. Two ways to get one:\n"
        f"  record your own:  python src/collect.py --env-config=sc2 with env_args.map_name={map_name}\n"
        f"  get the field's:  CFCQL's, OffPyMARL's or OG-MARL's, somewhere below {root}; "
        "python src/dataset.py fetch --help says how\n"
        "env_args.simulator=smax trains on a dataset that is made in a minute, and plays SMAX"
        + (f"\nStarCraft II itself is not there either: {missing}" if missing else "")
    )


def _record_script(path: Path, args: RunConfig, env: SMAX) -> None:
    """Plays the script's episodes on SMAX and writes them to `path`; goes on if interrupted."""
    runner = BatchRunner(env.make_batch(N_LANES))
    seeds = range(SEED, SEED + EPISODES, N_LANES)
    best_plays = list(runner.play(ScriptedPolicy(SEED, (0.0,), 0.0), 4 * N_LANES, SEED))
    best = float(sum(rollout.battle_won.mean() for rollout in best_plays) / len(best_plays))
    metadata = {
        "environment": args.env,
        "env_args": {key: value for key, value in args.env_args.items() if key != "dataset"},
        **env.provenance(),
        "behaviour": f"a script; each episode's share of decisions to stand still instead is one of {HESITATION}, "
        f"and {RANDOM_ACTIONS:.0%} of all actions are random; "
        f"with neither it wins {best:.0%} of its battles on this map",
        "full_state_script": True,
        "hesitation": HESITATION,
        "random_actions": RANDOM_ACTIONS,
        "script_battle_won_mean": best,
        "seed": SEED,
        "command": " ".join(sys.argv),
    }
    log.info("Recording %d episodes of a script on SMAX-%s", EPISODES, args.env_args["map_name"])
    with EpisodeWriter(path, metadata) as writer:
        shown = Progress(EPISODES, "Script", done=writer.n_episodes)
        for seed in seeds[writer.n_episodes // N_LANES :]:
            policy = ScriptedPolicy(seed + 1, HESITATION, RANDOM_ACTIONS)
            rollout = next(runner.play(policy, N_LANES, seed, record=True))
            episodes = list(islice(rollout.episodes(), EPISODES - seed))
            writer.append(episodes, {"battle_won": int(rollout.battle_won[: len(episodes)].sum())})
            shown.advance(len(episodes))
        shown.close()
