"""Plays battles through the project and the same ones with SMAC driven directly: every step.

    python tests/compare_with_smac.py FAKE_SC2.PY [NAME ...]

It needs the packages `smac` and `pysc2`, and a program that stands for StarCraft II: a fake that
speaks its protocol and always answers in the same way. The real game is not deterministic.

What is wrong in SMAC (docs/battles.md) is put right in SMAC's arrays before they are compared.
"""

import logging
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SEED = 7


@dataclass
class Case:
    """Episodes on one map.

    Args:
        map_name: of SMAC.
        args: of SMAC's environment, where they are not the default.
        fake: variables of the fake game.
        lengths: of the episodes; None: until they end, 3: abandoned after three steps.
        random_actions: share of them; the others attack, if possible.
    """

    map_name: str
    args: dict[str, Any] = field(default_factory=dict)
    fake: dict[str, str] = field(default_factory=dict)
    lengths: tuple = (None, None)
    random_actions: float = 1.0


ALL_OBS = {
    "obs_last_action": True,
    "obs_pathing_grid": True,
    "obs_terrain_height": True,
    "obs_timestep_number": True,
    "state_timestep_number": True,
}
WINS, TIME_OUTS, LATE = {"FAKE_SC2_ALLY": "2.5"}, {"FAKE_SC2_ENEMY": "0"}, {"FAKE_SC2_LATE": "1"}
MAPS = (
    *("3m", "8m", "25m", "5m_vs_6m", "27m_vs_30m", "MMM", "MMM2", "2s3z", "3s5z_vs_3s6z"),
    *("1c3s5z", "2m_vs_1z", "corridor", "2s_vs_1sc", "bane_vs_bane", "6h_vs_8z"),
    *("so_many_baneling", "2c_vs_64zg"),
)
CASES = {
    **{f"map {name}": Case(name) for name in MAPS},
    "wins": Case("2s3z", fake=WINS, random_actions=0.1),
    "wins of MMM": Case("MMM", ALL_OBS, WINS, random_actions=0.1),
    "time-outs": Case("3m", ALL_OBS, TIME_OUTS, lengths=(None, None)),
    "continuing episodes": Case("3m", {"continuing_episode": True}, TIME_OUTS),
    "wins, late": Case("3m", fake=WINS | LATE, lengths=(None,), random_actions=0.1),
    "late units": Case("3s5z", fake=WINS | LATE, random_actions=0.1),
    "abandoned": Case("2s3z", fake=WINS, lengths=(3, None, 4, None), random_actions=0.1),
    "abandoned twice, late": Case("MMM", {}, WINS | LATE, (2, 5, None), 0.1),
    "all observations": Case("1c3s5z", ALL_OBS, random_actions=0.5),
    "observations as state": Case("2s3z", {**ALL_OBS, "obs_instead_of_state": True}),
    "only own health": Case("2s3z", {"obs_all_health": False}),
    "no health": Case("3m", {"obs_all_health": False, "obs_own_health": False}),
    "state without actions": Case("2s3z", {"state_last_action": False}),
    "negative rewards": Case(
        "2s3z",
        {"reward_only_positive": False, "reward_negative_scale": 0.3, "reward_defeat": -5},
    ),
    "sparse rewards": Case("3m", {"reward_sparse": True}, WINS, random_actions=0.1),
    "unscaled rewards": Case("3m", {"reward_scale": False, "reward_death_value": 3}, WINS),
    "other scale, late": Case("3m", {"reward_scale_rate": 7, "reward_win": 50}, WINS | LATE),
    "steps and moves": Case("2s3z", {"step_mul": 4, "move_amount": 3, "difficulty": "A"}),
    "8-bit grid": Case("3m", ALL_OBS, {"FAKE_SC2_GRID8": "1"}),
    "a script plays": Case("MMM", {"heuristic_ai": True}),
    "a restricted script plays": Case("2s3z", {"heuristic_ai": True, "heuristic_rest": True}),
}
# What is recorded of a step.
Row = dict[str, Any]


def compare(case: Case) -> tuple[list[Row], list[str]]:
    """The project's rows, and where they differ from SMAC's."""
    with _variables(case.fake):
        command = [sys.executable, __file__, "--direct"]
        variables = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
        ) as direct:
            direct.stdin.write(pickle.dumps(asdict(case)))
            direct.stdin.close()
            ours = list(play_project(case))
            theirs = pickle.loads(direct.stdout.read())
    if len(ours) != len(theirs):
        return ours, [f"{len(ours)} rows, and {len(theirs)} of SMAC"]
    found = []
    for number, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        for key, value in other.items():
            if not np.array_equal(own[key], value):
                found.append(f"row {number}, {key}: {own[key]}, and SMAC's {value}")
    return ours, found


def ends(rows: list[Row]) -> dict[str, int]:
    """How many episodes were won, lost and out of time."""
    return {
        "won": sum(row.get("won", False) for row in rows),
        "lost": sum(row.get("terminated", False) and not row["won"] for row in rows),
        "out of time": sum(row.get("truncated", False) for row in rows),
    }


def play_project(case: Case) -> Iterator[Row]:
    """The rows of all episodes, through the project."""
    from inspo.envs.sc2.starcraft import StarCraft

    env = StarCraft(map_name=case.map_name, start_timeout=60, start_retries=0, **case.args)

    def reset() -> None:
        env.reset(SEED)

    def step(actions: list[int]) -> Row:
        _, reward, terminated, truncated, info = env.step(np.array(actions))
        won = bool(info.get("battle_won", False))
        assert not info.get("crashed")
        how = {"terminated": terminated, "truncated": truncated, "won": won}
        return {"reward": np.float32(reward), **how}

    def seen() -> Row:
        avail_actions = env.get_avail_actions()
        return {"obs": env.get_obs(), "state": env.get_state(), "avail_actions": avail_actions}

    try:
        yield from _episodes(case, reset, step, seen)
    finally:
        env.close()


def play_smac(case: Case) -> Iterator[Row]:
    """The rows of all episodes, by SMAC alone, with its known faults put right."""
    from smac.env import StarCraft2Env

    env = StarCraft2Env(map_name=case.map_name, seed=SEED, **case.args)
    right_scale = env.max_reward

    def reset() -> None:
        nonlocal right_scale
        env.reset()
        right_scale = env.n_enemies * env.reward_death_value + env.reward_win
        right_scale += sum(unit.health_max + unit.shield_max for unit in env.enemies.values())

    def step(actions: list[int]) -> Row:
        timeouts = env.timeouts
        reward, over, info = env.step(actions)
        if env.reward_scale:
            reward = reward * (env.max_reward / env.reward_scale_rate)
            reward = reward / (right_scale / env.reward_scale_rate)
        truncated = env.timeouts > timeouts
        how = {"terminated": over and not truncated, "truncated": truncated}
        return {"reward": np.float32(reward), **how, "won": info["battle_won"]}

    def seen() -> Row:
        obs = np.array(env.get_obs(), dtype=np.float32)
        state = np.array(env.get_state(), dtype=np.float32)
        if env.obs_timestep_number:
            obs = np.concatenate([obs[:, :-2], obs[:, -1:]], axis=1)
            if env.obs_instead_of_state:
                state = obs.reshape(-1)
        avail_actions = np.array(env.get_avail_actions(), dtype=bool)
        return {"obs": obs, "state": state, "avail_actions": avail_actions}

    try:
        yield from _episodes(case, reset, step, seen)
    finally:
        env.close()


def _episodes(
    case: Case, reset: Callable[[], None], step: Callable[[list[int]], Row], seen: Callable
) -> Iterator[Row]:
    rng = np.random.default_rng(SEED)
    for length in case.lengths:
        reset()
        row = seen()
        yield row
        steps, over = 0, False
        while not over and steps != length:
            result = step(_actions(case, row["avail_actions"], rng))
            row = {**result, **seen()}
            yield row
            steps, over = steps + 1, result["terminated"] or result["truncated"]


def _actions(case: Case, avail_actions: np.ndarray, rng: np.random.Generator) -> list[int]:
    """The first attack that is available, or any action."""
    actions = []
    for available in avail_actions:
        choices = np.flatnonzero(available)
        attacks = choices[choices >= 6]
        pick_any = rng.random() < case.random_actions or not len(attacks)
        actions.append(int(rng.choice(choices) if pick_any else attacks[0]))
    return actions


@contextmanager
def _variables(new: dict[str, str]) -> Iterator[None]:
    old = os.environ.copy()
    os.environ.update(new)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)


def install_fake(program: Path, folder: Path) -> dict[str, str]:
    """Installs a fake game with SMAC's maps by name. Returns the variables that lead to it."""
    maps = folder / "maps"
    maps.mkdir(parents=True)
    for name in {case.map_name for case in CASES.values()}:
        (maps / f"{name}.SC2Map").write_bytes(b"map")
    command = [sys.executable, str(program), "install", str(folder / "game"), str(maps)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"SC2PATH": str(folder / "game")}


def main(arguments: list[str]) -> int:
    """Compares all cases, or those whose names are given. Returns the number that differ."""
    logging.basicConfig(level=logging.WARNING)
    program, *names = arguments
    n_different = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        _variables(install_fake(Path(program), Path(folder))),
    ):
        for name in names or CASES:
            rows, found = compare(CASES[name])
            n_different += bool(found)
            result = found[0] if found else "equal"
            print(f"{name}: {len(rows)} rows, {ends(rows)}: {result}", flush=True)  # noqa: T201
    return n_different


if __name__ == "__main__":
    if sys.argv[1:] == ["--direct"]:
        direct_case = Case(**pickle.loads(sys.stdin.buffer.read()))
        answer = sys.stdout.buffer
        sys.stdout = sys.stderr  # what packages print is no part of the answer
        answer.write(pickle.dumps(list(play_smac(direct_case))))
    else:
        sys.exit(main(sys.argv[1:]))
