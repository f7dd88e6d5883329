"""Command line: `python src/main.py --config=ALGORITHM --env-config=ENVIRONMENT [with key=value ...]`."""

import logging
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # sacred's import

from sacred import SETTINGS, Experiment  # noqa: E402
from sacred.arg_parser import get_config_updates  # noqa: E402
from sacred.observers import FileStorageObserver  # noqa: E402

import controllers  # noqa: E402
import envs  # noqa: E402
import learners  # noqa: E402
import runners  # noqa: E402
from components.recipes import resolve_dataset  # noqa: E402
from run.run import run  # noqa: E402
from run.run_folder import dataset_root, new_run_name, results_root  # noqa: E402
from run.session import Interrupted  # noqa: E402
from utils.config import RunConfig, available, load_config, lookup, suggestion  # noqa: E402
from utils.errors import ConfigError, UserError  # noqa: E402

SETTINGS.CAPTURE_MODE = "no"  # the run folder's run.log holds the log; a bar on the terminal stays a bar

OPTIONS = ("--config", "--env-config")
USAGE = """\
Trains and evaluates offline multi-agent reinforcement learning, and the online learners that make its datasets.

  python src/main.py --config=ALGORITHM --env-config=ENVIRONMENT [with key=value ...]

  --config      one of the algorithms below, or the path of your own YAML
  --env-config  one of the environments below, or the path of your own YAML
  with          settings over those of the YAMLs, as in `with seed=3 env_args.dataset=mixed t_max=20000`;
                offline, t_max and every interval are in gradient steps, online (qmix) in environment steps
                (all settings: src/config/default.yaml and the algorithm's YAML)

Go on with a run:   ... with checkpoint_path=RUN_FOLDER
Only evaluate it:   ... with checkpoint_path=RUN_FOLDER evaluate=True
Collect datasets:   python src/collect.py --help
"""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 0 done, 2 the user's to mend, 130 interrupted and saved."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s %(asctime)s] %(message)s", datefmt="%H:%M:%S")
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(help_text())  # noqa: T201
        return 0 if arguments else 2
    try:
        execute(parse(arguments))
    except UserError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt as error:
        if isinstance(error, Interrupted):
            message = f"Go on with: {resume_command(arguments, error.checkpoint)}"
        else:  # before or after training, or a second Ctrl-C
            message = "Interrupted, and nothing saved just now; checkpoints, if there are any, are in the run's folder."
        print(message, file=sys.stderr)  # noqa: T201
        return 130
    return 0


def resume_command(arguments: list[str], checkpoint: Path) -> str:
    """The same command line, going on from `checkpoint`."""
    kept = [argument for argument in arguments if not argument.startswith(("checkpoint_path=", "load_step="))]
    with_word = [] if "with" in kept else ["with"]
    return shlex.join(["python", sys.argv[0], *kept, *with_word, f"checkpoint_path={checkpoint}"])


def parse(arguments: list[str]) -> RunConfig:
    """The checked configuration that the command line asks for; ConfigError if it asks for something wrong."""
    options: dict[str, str] = {}
    remaining = list(arguments)
    updates: list[str] = []
    if "with" in remaining:
        at = remaining.index("with")
        remaining, updates = remaining[:at], remaining[at + 1 :]
    while remaining:
        name, has_value, value = remaining.pop(0).partition("=")
        if name not in OPTIONS:
            near = suggestion(name, OPTIONS) if name.startswith("-") else ""
            raise ConfigError(f"unknown argument '{name}'{near}; settings go after `with`, as in `with seed=3`")
        if not has_value:
            if not remaining:
                raise ConfigError(f"{name} needs a value, as in {name}=NAME")
            value = remaining.pop(0)
        options[name] = value
    for name in OPTIONS:
        if name not in options:
            raise ConfigError(f"{name}=NAME is missing; --help lists the names")
    args = load_config(
        options["--config"],
        options["--env-config"],
        overrides_of(updates),
        schema_of=lambda name: lookup(learners.REGISTRY, name, "learner").Config,
        env_of=lambda name: lookup(envs.REGISTRY, name, "env"),
    )
    lookup(controllers.REGISTRY, args.mac, "mac")
    lookup(runners.REGISTRY, args.runner, "runner")
    return args


def overrides_of(updates: list[str]) -> dict[str, Any]:
    """The nested mapping that `key=value` settings ask for."""
    for update in updates:
        if "=" not in update:
            raise ConfigError(f"'{update}' after `with` is not of the form key=value")
    return get_config_updates(updates)[0]


def execute(args: RunConfig) -> None:
    """Hands the run to sacred, which keeps its record (config.json, run.json, metrics.json) in the run folder."""
    args = resolve_dataset(args, dataset_root(args.dataset_root))
    experiment = Experiment(args.name, save_git_info=False)
    experiment.logger = logging.getLogger("sacred")
    experiment.logger.setLevel(logging.CRITICAL)  # main says what went wrong, once
    experiment.add_config(args.model_dump())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is a Ctrl-C
    observer = FileStorageObserver(results_root(args.local_results_path), copy_sources=False)
    experiment.observers.append(observer)

    @experiment.main
    def train(_run: Any) -> float | None:
        return run(args, _run, observer.dir)

    experiment.run(options={"--id": new_run_name(args), "--debug": True})


def help_text() -> str:
    """Usage, and what algorithms and environments there are."""
    lines = [USAGE]
    for title, kind in (("Algorithms", "algs"), ("Environments", "envs")):
        lines.append(f"{title}:")
        lines += [f"  {name:<16}{description}" for name, description in available(kind).items()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
