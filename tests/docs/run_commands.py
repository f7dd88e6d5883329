"""Runs the documentation's commands with small settings, in the process where that is possible."""

import importlib
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import PROJECT

# Commands that no test runs. A key is a whole command or how commands begin.
NOT_RUN = {
    "git clone": "there is nothing to clone from",
    "cd inspo": "the folder of the clone",
    "python3 -m venv": "installation",
    ". .venv/bin/activate": "installation",
    "pip install": "installation",
    "SC2_PASSWORD=...": "downloads StarCraft II",
    "docker/install_sc2.sh": "downloads StarCraft II",
    "docker ": "needs docker",
    "ray start": "starts a cluster; tests/sweeps has one",
    "pytest": "the tests themselves",
    "ruff": "a check of the whole project",
    "lint-imports": "a check of the whole project",
    "python src/dataset.py fetch": "downloads; tested in tests/data with a server of its own",
    "python src/main.py --config=mappo --env-config=sc2": "plays SMAX; tests/run has small runs",
    "python src/collect.py --env-config=sc2": "trains QMIX for hours",
    "python src/collect.py --config=": "trains for minutes; tests/run collects on XOR",
    "python src/main.py --config=inspo --env-config=simple_spread_offline": "needs its dataset",
    "python src/main.py --config=bc --env-config=lbf_offline": "needs its dataset",
    "python src/collect.py --env-config=lbf": "trains for minutes; tests/run collects on XOR",
    "python src/collect.py --random --env-config=lbf": "needs lbforaging; tests/envs has the like",
    "python src/main.py --config=inspo --env-config=lbf_offline": "needs its dataset",
    "python src/main.py --config=bc --env-config=sc2_offline with env_args.dataset=medium": "plays "
    "2,000 battles; tests/envs plays a few",
    "python src/main.py --config=bc --env-config=data_only": "tested in tests/envs",
    "python src/collect.py --checkpoint": "plays SMAX; tests/run collects from a checkpoint",
    "python src/collect.py --random --env-config=sc2": "plays SMAX; tests/run collects at random",
    "python src/watch.py results/BC_RUN results/INSPO_RUN --out=battle.gif": "plays SMAX; "
    "tests/watch films battles",
    "python src/main.py --config=inspo --env-config=sc2_offline with "
    "env_args.simulator=starcraft2": "needs StarCraft II",
    "python src/main.py --config=inspo --env-config=sc2_offline with "
    "dataset_root=FOLDER": "needs StarCraft II; tests/envs has the like on a fake game",
    "python src/main.py --config=bc --env-config=sc2_offline with env_args.simulator=starcraft2 "
    "env_args.dataset=FILE": "needs a dataset of StarCraft II; tests/run has one",
    "python benchmarks/train_step.py --algorithms inspo bc --device cuda": "needs a GPU",
    "python src/compare.py results --aggregate": "needs rliable and seeds; tests/comparison has it",
    "python src/main.py --config=bc --env-config=xor_offline with use_wandb=True": "needs wandb; "
    "tests/run has it",
    "python benchmarks/gpu_check.py": "needs a GPU; tests/benchmarks pretends one",
}
SMALL = {
    "test_nepisode": 4,
    "test_interval": 10,
    "log_interval": 10,
    "save_model_interval": 10,
    "use_tensorboard": False,
    "batch_size": 8,
    "hidden_dim": 16,
    "num_threads": 1,
}
ALGORITHMS = PROJECT / "src" / "config" / "algs"
# Of algorithms that clone the behaviour first.
SMALL_BEHAVIOUR = {"behaviour_steps": 3, "behaviour_batch_size": 8}
NO_GAMES = {"test_nepisode": 0}  # of battles: SMAX takes half a minute to compile
BENCHMARK = "--agents 3 --batch 2 --length 3 --repeats 1 --threads 1"


def reason_not_to_run(command: str) -> str:
    """Why no test runs a command. Empty if one does."""
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), "")


def small_settings(config: str, env_config: str, updates_per_agent: int = 0) -> dict:
    """Settings that make a run of any algorithm short."""
    file = Path(config) if config.endswith(".yaml") else ALGORITHMS / f"{config}.yaml"
    algorithm = yaml.safe_load(file.read_text())
    if "base" in algorithm:
        return small_settings(algorithm["base"], env_config, updates_per_agent)
    clones = SMALL_BEHAVIOUR if "behaviour_steps" in algorithm else {}
    battles = NO_GAMES if env_config.startswith("sc2") else {}
    critics = {"critic_hidden_dim": 16} if "critic_hidden_dim" in algorithm else {}
    return {"t_max": max(20, updates_per_agent), **SMALL, **clones, **critics, **battles}


class Page:
    """The folder in which a page's commands and blocks run, one after the other."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.places = {
            "local_results_path": str(folder / "results"),
            "dataset_root": str(folder / "dataset"),
        }

    def run(self, command: str) -> None:
        """Runs a command; AssertionError if it fails."""
        words = shlex.split(command)
        if words[0] == "cp":
            subprocess.run(words, cwd=self.folder, check=True, timeout=10)
            return
        assert words[0] == "python", f"neither run nor listed in NOT_RUN: {command}"
        name, arguments = Path(words[1]).stem, words[2:]
        known = getattr(self, f"_{name}", None)
        if known is None:
            status = self._subprocess(words[1], arguments)
        elif arguments == ["--help"]:
            status = _exit_status(_main_of(name), arguments)
        else:
            status = known(arguments)
        assert not status, f"exit status {status}: {command}"

    def newest_run(self, start: str) -> str:
        """The name of the newest run folder with such a name."""
        found = list((self.folder / "results").glob(f"{start}*_seed*"))
        return max(found, key=lambda path: path.stat().st_mtime_ns).name

    def _main(self, arguments: list[str]) -> int:
        options = dict(word.lstrip("-").split("=", 1) for word in arguments if "=" in word)
        config, env_config = options["config"], Path(options["env-config"]).stem
        updates = int(options.get("updates_per_agent", 0))
        settings = small_settings(config, env_config, updates) | self.places
        if "with" not in arguments:
            arguments = [*arguments, "with"]
        if options.get("checkpoint_path", "").endswith("RUN_FOLDER"):
            run = self.newest_run(f"{config}_{env_config}")
            arguments = [word.replace("RUN_FOLDER", run) for word in arguments]
        added = [f"{key}={value}" for key, value in settings.items()]
        return _main_of("main")([*arguments, *added])

    def _tabular_main(self, arguments: list[str]) -> int:
        if "with" not in arguments:
            arguments = [*arguments, "with"]
        return _main_of("tabular_main")([*arguments, f"figure={self.folder / 'figure.png'}"])

    def _compare(self, arguments: list[str]) -> int:
        if not any(word.startswith("--out") for word in arguments):
            arguments = [*arguments, f"--out={self.folder / 'comparison'}"]
        return _main_of("comparison.command")(arguments)

    def _watch(self, arguments: list[str]) -> int:
        for placeholder, start in {"INSPO_RUN": "inspo", "BC_RUN": "bc"}.items():
            if any(placeholder in word for word in arguments):
                run = self.newest_run(f"{start}_")
                arguments = [word.replace(placeholder, run) for word in arguments]
        return _main_of("film.command")([*arguments, "--episodes=1", "--size=200"])

    def _sweep(self, arguments: list[str]) -> int:
        """Checks all settings of all runs. tests/sweeps runs sweeps."""
        return _main_of("sweeps.command")(_dry_run(arguments))

    def _reproduce(self, arguments: list[str]) -> int:
        return _main_of("sweeps.reproduction")(_dry_run(arguments))

    def _dataset(self, arguments: list[str]) -> int:
        return _main_of("dataset")(arguments)

    def _train_step(self, arguments: list[str]) -> int:
        path = PROJECT / "benchmarks" / "train_step.py"
        spec = importlib.util.spec_from_file_location("train_step", path)
        benchmark = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(benchmark)
        before, sys.argv = sys.argv, [str(path), *arguments, *BENCHMARK.split()]
        try:
            benchmark.main()
        finally:
            sys.argv = before
        return 0

    def _subprocess(self, script: str, arguments: list[str]) -> int:
        command = [sys.executable, str(PROJECT / script), *arguments]
        process = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=300, env=os.environ
        )
        print(process.stdout, process.stderr)  # noqa: T201
        return process.returncode


def _main_of(name: str):
    return importlib.import_module(f"inspo.{name}").main


def _dry_run(arguments: list[str]) -> list[str]:
    return arguments if "--dry-run" in arguments else ["--dry-run", *arguments]


def _exit_status(main, arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code or 0
