"""The Python interface, for scripts and notebooks. `docs/python-interface.md` is its page.

    import inspo

    run = inspo.train("inspo", "xor_offline", t_max=200)
    print(run.scores["test_return_mean"]["final"])
    policy = run.policy()

`import inspo` offers all of these names and loads this module when one of them is first used.

Shapes: N agents, A actions, O numbers per observation, S numbers per state.
"""

import operator
import os
import random
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from inspo.data import formats
from inspo.data.episode_data import UNKNOWN, EpisodeData
from inspo.data.formats import load_dataset
from inspo.data.recording import record_gymnasium, record_parallel
from inspo.envs import MultiAgentEnv
from inspo.film.watching import watch
from inspo.run import session
from inspo.run.checkpoint import load_policy, open_checkpoint, policy_of
from inspo.run.evaluation import EvaluationSession
from inspo.run.finished_run import Run
from inspo.run.run import run as run_settings
from inspo.run.settings import checked_settings, settings_from
from inspo.utils.command import setup_logging
from inspo.utils.config import RunConfig, merge
from inspo.utils.device import precision_kept
from inspo.utils.errors import ConfigError, UserError
from inspo.utils.words import nested

if TYPE_CHECKING:
    from inspo.comparison.tables import ComparisonTable
    from inspo.sweeps.sweep import SweepResult

__all__ = [
    "EpisodeData",
    "Run",
    "UserError",
    "compare",
    "evaluate",
    "from_episodes",
    "load_dataset",
    "load_policy",
    "make_env",
    "record_gymnasium",
    "record_parallel",
    "sweep",
    "train",
    "watch",
    "write_dataset",
]

PathLike = str | os.PathLike
_one_at_a_time = threading.Lock()


def train(config: PathLike, env_config: PathLike, **settings: Any) -> Run:
    """Trains, evaluates and records a run. Same folder and same numbers as `python src/main.py`.

    Runs share torch's random state, so they take turns if several threads start one. Random states
    and torch's number of threads are restored at the end.

    Args:
        config: name of an algorithm, or the path of your own YAML.
        env_config: name of an environment, or the path of your own YAML.
        settings: settings over those of the YAMLs. `env_args` is a mapping, merged over the YAML's.
            A dotted key sets one of its entries: `**{"env_args.dataset": "b"}`.
            `checkpoint_path=run` resumes a run; give the run's other settings again.

    Returns:
        the finished run. Progress goes to the log, which is shown unless logging was set up before.

    Raises:
        UserError: a setting, dataset or checkpoint is wrong, or training diverged.
        KeyboardInterrupt: it was interrupted. What was learnt is saved, and the log says where.
    """
    setup_logging()
    args = checked_settings(os.fspath(config), os.fspath(env_config), _nested(settings))
    with _global_state_kept():
        folder = run_settings(args)
    return Run(folder)


def evaluate(
    run: PathLike,
    n_episodes: int | None = None,
    greedy: bool | None = None,
    seed: int | None = None,
    **env_args: Any,
) -> dict[str, float]:
    """Plays test episodes with trained policies. No run folder is made.

    By default it repeats the run's last evaluation: same seed, same episodes, same numbers.

    Args:
        run: a run, its folder (its newest checkpoint), `RUN:STEP`, or a checkpoint file.
        n_episodes: how many; None: as many as the run's `test_nepisode`.
        greedy: take the likeliest (or most valued) actions; None: the run's `test_greedy`.
        seed: of the games and the sampled actions; None: that of the run's evaluation.
        env_args: settings of the environment over those of the run.

    Returns:
        `test_return_mean`, `test_return_std`, `test_ep_length_mean` and, of battles,
        `test_battle_won_mean`.

    Raises:
        UserError: there is no checkpoint, or the policies do not fit the environment.
    """
    args = _evaluation_settings(run, n_episodes, greedy, env_args)
    with _global_state_kept():
        if args.num_threads:
            th.set_num_threads(args.num_threads)
        games = EvaluationSession(args)
        try:
            games.notice()
            if seed is None:
                seed = session.evaluation_seed(args.seed, games.content["step"])
            seed = operator.index(seed)  # NumPy's numbers, too
            mac = policy_of(games.content, games.path).to(games.device)
            runner = games.get_runner()
            return runner.evaluate(mac, args.test_nepisode, args.test_greedy, seed)
        finally:
            games.close()


def make_env(env_config: PathLike, **env_args: Any) -> MultiAgentEnv:
    """The environment that a YAML describes, for acting in it.

    Args:
        env_config: name of an environment, or the path of your own YAML.
        env_args: settings over those of the YAML.

    Raises:
        UserError: there is no such environment or setting, or the game cannot be started.
    """
    # Settings are checked for a whole run. Any algorithm will do.
    args = checked_settings("bc", os.fspath(env_config), {"env_args": _plain(env_args)})
    return session.make_env(args)


def from_episodes(
    episodes: Iterable[dict[str, np.ndarray]],
    metadata: Mapping[str, Any] | None = None,
    name: str = "dataset",
    reward_scalarisation: str | None = None,
) -> EpisodeData:
    """Joins episodes, checks them, and describes them.

    Args:
        episodes: dicts of the arrays `state` [L+1, S], `obs` [L+1, N, O], `actions` [L+1, N],
            `avail_actions` [L+1, N, A], `reward` [L+1], `terminated` [L+1] and `truncated` [L+1]
            for L steps. `docs/dataset-format.md` specifies them.
        metadata: plain JSON values. Worth saying are `behaviour` (who played, in words),
            `environment` (the key `env` of the environment's YAML) and `env_args` (its settings): a
            run on another environment then warns. By default environment and behaviour are
            `unknown`, `env_args` is empty, and `command` is this program's command line.
        name: what messages call the dataset.
        reward_scalarisation: `mean` or `sum`: how rewards per agent, [L+1, N], become the team's.
            None refuses rewards that differ between agents.

    Raises:
        UserError: an episode cannot be trained on; which field, episode and step.
    """
    described = {
        "environment": UNKNOWN,
        "env_args": {},
        "behaviour": UNKNOWN,
        "command": " ".join(sys.argv),
        **(metadata or {}),
    }
    data = formats.from_episodes(episodes, described, name, reward_scalarisation)
    data.check()
    return data


def write_dataset(data: EpisodeData, path: PathLike) -> Path:
    """Writes a dataset of the project's own format atomically. Train on it with `env_args.dataset`.

    Args:
        data: from `from_episodes` or `load_dataset`.
        path: the file to be, such as `mine.h5`.

    Returns:
        the absolute path.

    Raises:
        UserError: the data or its metadata fails a check.
        FileExistsError: nothing is overwritten.
    """
    path = Path(path).expanduser().absolute()
    formats.write_h5(data, path)
    return path


def compare(
    *results: PathLike | Iterable[PathLike],
    score: str = "final",
    env: str | Iterable[str] = (),
    where: Mapping[str, Any] | None = None,
    metric: str | None = None,
    group_by: str | Iterable[str] | None = None,
    allow: str | Iterable[str] = (),
    out: PathLike | None = None,
) -> "ComparisonTable":
    """A table of runs over their seeds: a row for each algorithm, a column for each environment.

    Runs of one algorithm whose settings differ get rows of their own.

    Args:
        results: runs, run folders, folders that hold them, or lists and sets of these. What
            is not in the current folder is looked up in the project's, as `results` of `train` is.
        score: `final`, `last5` or `best` (optimistic: selected after the fact).
        env: only environments of these names; `*` stands for any text.
        where: only runs with these settings, as in `{"name": "inspo", "seed": [0, 1]}`.
        metric: `test_return_mean` or `test_battle_won_mean`. By default the share of battles won
            where there are battles, else the return.
        group_by: rows by algorithm and these settings; others are pooled.
        allow: which of `test_nepisode`, `test_greedy`, `t_max` and `test_interval` may differ.
        out: a folder in which tables and learning curves are written.

    Returns:
        the table. It prints as Markdown and shows as a table in notebooks; `to_markdown()`,
        `to_latex()` and `to_csv()` return it as text, `save(folder)` writes what `out` does.

    Raises:
        UserError: there are no such runs, or they cannot stand in one table.
    """
    from inspo.comparison.command import as_list, compare_runs  # loads SciPy, which is slow

    paths = [path for result in results for path in as_list(result)]
    if not paths:
        raise UserError("compare needs runs, run folders, or folders that hold them")
    table = compare_runs(
        paths,
        score=score,
        metric=metric,
        environments=env,
        where=where,
        group_by=group_by,
        allow=allow,
    )
    if out is not None:
        table.save(Path(out).expanduser())
    return table


def sweep(spec: PathLike | Mapping[str, Any], address: str | None = None) -> "SweepResult":
    """Many runs: every algorithm on every dataset with every seed. As `python src/sweep.py`.

    Runs that are finished are not repeated, and interrupted ones resume. Each run has a process of
    its own. It needs Ray, the extra `sweep`.

    Args:
        spec: the path of a YAML, or what it would hold, as in
            `{"algorithms": ["inspo", "bc"], "environments": ["xor_offline"], "seeds": "0-4"}`.
            `docs/sweeps.md` explains the keys.
        address: of a running Ray cluster, `HOST:PORT` or `auto`; None: this machine.

    Returns:
        `runs`, the finished ones, for `inspo.compare(*result.runs)`; `failed`, the last lines of
        the others' output; and `folder`.

    Raises:
        UserError: a setting or a dataset is wrong, or Ray is missing. Nothing was started then.
        KeyboardInterrupt: it was interrupted. The same call goes on.
    """
    from inspo.sweeps.spec import read_spec, spec_from
    from inspo.sweeps.sweep import Sweep

    setup_logging()
    if isinstance(spec, Mapping):
        described = spec_from(_plain(spec))
    else:
        described = read_spec(Path(spec).expanduser())
    return Sweep(described).run(address)


def _evaluation_settings(
    run: PathLike, n_episodes: int | None, greedy: bool | None, env_args: Mapping[str, Any]
) -> RunConfig:
    """Those of the run, with what `evaluate` was given over them."""
    file, content = open_checkpoint(run)
    config = content["config"]
    changed: dict[str, Any] = {
        "evaluate": True,
        "checkpoint_path": str(file),
        "use_cuda": config["use_cuda"] and th.cuda.is_available(),
        "device": "cpu" if config.get("device") == "cpu" else "auto",  # it may not be there now
        "env_args": _plain(env_args),
    }
    if n_episodes is not None:
        changed["test_nepisode"] = n_episodes
    if greedy is not None:
        changed["test_greedy"] = greedy
    args = settings_from(config, changed)
    if not args.test_nepisode:
        raise ConfigError(f"{file}: an evaluation needs n_episodes of 1 or more")
    return args


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the YAMLs nest them: dotted keys are split."""
    updates = (nested(key.split("."), _plain(value)) for key, value in settings.items())
    return merge({}, *updates)


def _plain(value: Any) -> Any:
    """A setting as a YAML would hold it: paths as text, arrays and tuples as lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | th.Tensor):
        return value.tolist()
    return value


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """One run at a time; afterwards random states and number of threads are as they were."""
    with _one_at_a_time:
        n_threads = th.get_num_threads()
        python_state, numpy_state = random.getstate(), np.random.get_state()
        devices = range(th.cuda.device_count()) if th.cuda.is_initialized() else ()
        try:
            with precision_kept(), th.random.fork_rng(devices):
                yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            th.set_num_threads(n_threads)
