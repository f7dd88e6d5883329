"""The policies that come with the project, and their cards. tests/envs/test_smax.py plays some."""

import pytest
import torch as th
from conftest import make_args, needs_smax

from inspo.data.policy_cards import POLICIES
from inspo.envs.bridge import Bridge
from inspo.envs.sc2.smax import SMAX
from inspo.envs.sc2.smax_maps import MAPS
from inspo.run.shipped_policies import player, recorders
from inspo.utils.yaml_files import read_yaml

CARDS = sorted(POLICIES.glob("*.yaml"))
MAX_BYTES = 5_000_000


def test_they_are_small():
    files = [path for path in POLICIES.iterdir() if path.suffix == ".pt"]
    assert [path.stem for path in sorted(files)] == [card.stem for card in CARDS]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


@needs_smax
@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_cards_describe_them(card):
    content, about = th.load(card.with_suffix(".pt"), weights_only=True), read_yaml(card)
    assert about["map_name"] == card.stem
    assert card.stem in MAPS
    assert content["weights"].keys() == about["policies"].keys()
    used = {name for names in about["datasets"].values() for name in names}
    assert used == about["policies"].keys()
    env = SMAX(card.stem)
    for name, entry in about["policies"].items():
        assert about["trainings"][entry["training"]].startswith("python src/main.py --config=mappo")
        for mode in ("greedy", "sampled"):
            assert 0 <= entry[mode]["battle_won"] <= 1
        played = player(name, about, content, env)
        assert played.about["step"] == entry["step"]
    by_quality = {
        name: [about["policies"][policy]["greedy"]["battle_won"] for policy in policies]
        for name, policies in about["datasets"].items()
    }
    if "expert" in by_quality:
        assert min(by_quality["expert"]) > max(by_quality["medium"])


def test_other_games_have_none():
    assert recorders(make_args("bc", "bridge_offline"), Bridge()) == {}
    assert recorders(make_args("bc", "sc2_offline"), None) == {}


@needs_smax
def test_maps_without_policies_have_none():
    args = make_args("bc", "sc2_offline", env_args={"map_name": "27m_vs_30m", "simulator": "smax"})
    assert recorders(args, SMAX("27m_vs_30m")) == {}
