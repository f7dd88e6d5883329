"""A small game for online runs, which value-based algorithms solve in seconds."""

from pathlib import Path

from inspo import main

# Played twice. A higher action is always better, whatever the other agent does. Worth 18.
GAME = """
env: matrix_game
env_args:
  n_agents: 2
  n_actions: 3
  episode_limit: 2
  payoff: [[0, 1, 2], [1, 3, 5], [2, 5, 9]]
"""
RANDOM_RETURN = 56 / 9
FAST = [
    "t_max=1000",
    "updates_per_round=3",
    "test_interval=250",
    "log_interval=250",
    "save_model_interval=250",
    "learning_starts=100",
    "epsilon_anneal_time=800",
    "batch_size=16",
    "buffer_size=500",
    "hidden_dim=16",
    "lr=0.01",
    "n_parallel=16",
    "test_nepisode=16",
    "use_tensorboard=False",
    "target_update_interval=20",
]
FAST_MAPPO = [
    "t_max=1000",
    "test_interval=100",
    "log_interval=250",
    "save_model_interval=250",
    "batch_size=8",
    "hidden_dim=16",
    "critic_hidden_dim=16",
    "lr=0.01",
    "n_parallel=16",
    "test_nepisode=16",
    "test_greedy=True",
    "use_tensorboard=False",
]


def write_game(folder: Path) -> str:
    """Writes game.yaml into `folder`. Returns the option that selects it."""
    (folder / "game.yaml").write_text(GAME)
    return f"--env-config={folder / 'game.yaml'}"


def train_qmix(folder: Path, *settings: str, results: str = "results") -> Path:
    """A run of QMIX in this process; returns its folder."""
    return train_online(folder, "qmix", *settings, results=results)


def train_mappo(folder: Path, *settings: str, results: str = "results") -> Path:
    """A run of MAPPO in this process; returns its folder."""
    return train_online(folder, "mappo", *settings, results=results, fast=FAST_MAPPO)


def train_online(
    folder: Path, algorithm: str, *settings: str, results: str = "results", fast=FAST
) -> Path:
    """A run of an online algorithm in this process; returns its folder."""
    where = f"local_results_path={folder / results}"
    words = [f"--config={algorithm}", write_game(folder), "with", *fast, where, *settings]
    assert main.main(words) == 0
    runs = (folder / results).glob(f"{algorithm}_*")
    return max(runs, key=lambda path: path.stat().st_mtime_ns)
