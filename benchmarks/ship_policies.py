"""Makes src/policies/MAP.pt and MAP.yaml from trainings on SMAX.

python benchmarks/ship_policies.py MAP --medium CHECKPOINT ... --expert CHECKPOINT ... \
    --snapshots CHECKPOINT ... --replay CHECKPOINT ... --poor CHECKPOINT ... [--temperature T] \
    [--note TEXT]

All options can be left out. A checkpoint is a file, or RUN_FOLDER:STEP. `medium-replay` is played
by all policies that the runs of `--snapshots` had at evaluations until then, and by those of
`--replay`; without a `medium` it is called `replay`. They play 128 battles greedily and 128 with
sampled actions, those of the other datasets 512. All play with the weights that are stored: 16-bit
floats. `mixed` is half medium and half expert. Leave out a dataset that does not deserve its name:
where training does not win, the last policies are `poor`.

Sampled play lags far behind greedy play while the entropy bonus holds. A temperature below 1 makes
the policies of expert sharper: pi(a)^(1/T), normalised.

Policies that are in the files already are not played again.
"""

import argparse
import json
import sys
from contextlib import closing
from typing import Any

import torch as th
import yaml

from inspo.data.policy_cards import POLICIES, card_of
from inspo.data.rollout import play
from inspo.envs.sc2.smax import SMAX
from inspo.run.checkpoint import POLICY_SETTINGS, open_checkpoint, policy_of
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.files import load_torch, save_torch

BATTLES, BATTLES_OF_REPLAY, N_ENVS, SEED = 512, 128, 128, 1_000_000
OWN_SETTINGS = (
    "lr",
    "critic_lr",
    "lr_decay_steps",
    "eps_clip",
    "entropy_coef",
    "epochs",
    "batch_size",
    "n_parallel",
    "hidden_dim",
    "seed",
)


def main() -> None:
    """Writes both files."""
    options = make_parser().parse_args()
    env = SMAX(options.map_name)
    content: dict[str, Any] = {"weights": {}}
    card: dict[str, Any] = {
        "map_name": options.map_name,
        **env.provenance(),
        "algorithm": "mappo",
        "note": options.note,
        "trainings": {},
        "policies": {},
        "datasets": {},
    }
    for name in ("poor", "medium", "expert"):
        if sources := getattr(options, name):
            temperature = options.temperature if name == "expert" else 1.0
            checkpoints = [open_checkpoint(source)[1] for source in sources]
            card["datasets"][name] = [
                add(one, card, content, env, BATTLES, temperature) for one in checkpoints
            ]
    if options.medium and options.expert:
        card["datasets"]["mixed"] = card["datasets"]["medium"] + card["datasets"]["expert"]
    replay = [one for source in options.snapshots for one in snapshots_of(source)]
    replay += [open_checkpoint(source)[1] for source in options.replay]
    if replay:
        names = [add(one, card, content, env, BATTLES_OF_REPLAY) for one in replay]
        card["datasets"]["medium-replay" if options.medium else "replay"] = names
    POLICIES.mkdir(exist_ok=True)
    save_torch(content, POLICIES / f"{options.map_name}.pt")
    text = yaml.safe_dump(card, sort_keys=False, width=100, explicit_end=True)
    title = f"# The policies in {options.map_name}.pt, made by benchmarks/ship_policies.py.\n"
    (POLICIES / f"{options.map_name}.yaml").write_text(title + text)
    print(text)  # noqa: T201


def make_parser() -> argparse.ArgumentParser:
    """The script's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("map_name")
    for name in ("poor", "medium", "expert", "snapshots", "replay"):
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar="CHECKPOINT")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--note", default="")
    return parser


def snapshots_of(source: str) -> list[dict[str, Any]]:
    """The policies that a checkpoint's run had until then, each as a checkpoint."""
    _, checkpoint = open_checkpoint(source)
    return [
        {
            **checkpoint,
            "learner": {"modules": {"mac": snapshot["mac"]}},
            "step": snapshot["step"],
        }
        for snapshot in checkpoint["snapshots"]
    ]


def add(
    checkpoint: dict[str, Any],
    card: dict[str, Any],
    content: dict[str, Any],
    env: SMAX,
    battles: int,
    temperature: float = 1.0,
) -> str:
    """Adds a checkpoint's policy unless it is there. Returns its name."""
    config, step = checkpoint["config"], checkpoint["step"]
    training = f"seed{config['seed']}"
    name = f"{training}_{step}" + (f"_t{temperature:g}" if temperature != 1 else "")
    words = [f"{key}={config[key]}" for key in OWN_SETTINGS if config[key] is not None]
    command = (
        f"python src/main.py --config={config['name']} --env-config={config['env_config']} "
        f"with env_args.map_name={env.map_name} {' '.join(words)}"
    )
    if card["trainings"].setdefault(training, command) != command:  # names are of seeds
        sys.exit(f"two trainings have seed={config['seed']}; give one of them another seed")
    if name in card["policies"]:
        return name
    modules = checkpoint["learner"]["modules"]
    half = {key: value.half() for key, value in sharpened(modules["mac"], temperature).items()}
    modules["mac"] = {key: value.float() for key, value in half.items()}
    content["weights"][name] = half
    content["config"] = {key: config[key] for key in sorted(POLICY_SETTINGS)}
    mac = policy_of(checkpoint)
    known = known_entry(env.map_name, name, half)
    card["policies"][name] = known or {
        "training": training,
        "step": step,
        "temperature": temperature,
        "battles": battles,
        "greedy": scores(mac, env, battles, greedy=True),
        "sampled": scores(mac, env, battles, greedy=False),
    }
    print(json.dumps({name: card["policies"][name]}), flush=True)  # noqa: T201
    return name


def known_entry(map_name: str, name: str, weights: dict[str, th.Tensor]) -> dict[str, Any] | None:
    """What the card says of these very weights; None if it does not know them."""
    card, path = card_of(map_name), POLICIES / f"{map_name}.pt"
    if card is None or name not in card["policies"]:
        return None
    there = load_torch(path)["weights"][name]
    same = all(th.equal(there[key], value) for key, value in weights.items())
    return card["policies"][name] if same else None


def sharpened(weights: dict[str, th.Tensor], temperature: float) -> dict[str, th.Tensor]:
    """The policy's weights with its outputs, which are logits, divided by the temperature."""
    return {key: value / temperature if ".fc2." in key else value for key, value in weights.items()}


def scores(mac: Any, env: SMAX, battles: int, greedy: bool) -> dict[str, float]:
    """Share of battles won and mean return."""
    th.set_num_threads(1)
    with closing(env.make_batch(N_ENVS)) as games:
        rollouts = list(play(games, MacPolicy(mac, SEED, greedy), battles, SEED))
    won = sum(int(rollout.battle_won.sum()) for rollout in rollouts)
    total = sum(float(rollout.returns.sum()) for rollout in rollouts)
    n_battles = sum(len(rollout.lengths) for rollout in rollouts)
    return {"battle_won": round(won / n_battles, 3), "return": round(total / n_battles, 2)}


if __name__ == "__main__":
    main()
