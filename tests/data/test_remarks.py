"""Remarks about valid datasets: magnitudes, repeated episodes, and what is published of them."""

import logging

import numpy as np
import pytest
from conftest import make_args, make_data
from public_layouts import ended, vault_leaves, write_vault

from inspo import dataset
from inspo.data.catalogue import find_dataset
from inspo.data.formats import open_dataset, write_h5
from inspo.data.formats.schema import subset_of
from inspo.data.magnitudes import largest, remarks
from inspo.data.tools import published
from inspo.data.tools.statistics import statistics
from inspo.data.tools.validate import validate


def test_published_statistics_are_complete():
    found = published.all_published()
    assert len(found) >= 60
    medium = found["cfcql/smac_v1/5m_vs_6m/Medium"]
    assert (medium.episodes, medium.transitions, medium.mean) == (5000, 135256, 12.05)
    for numbers in found.values():
        assert numbers.min <= numbers.mean <= numbers.max
        assert 0 < numbers.distinct_pairs <= 1
        assert 0 < numbers.episodes <= numbers.transitions


@pytest.fixture
def vault(tmp_path):
    """A Vault in the place of CFCQL's 2s3z, Medium, as fetch unpacks it."""
    place = tmp_path / "vaults" / "cfcql" / "smac_v1" / "2s3z.vlt" / "Medium"
    write_vault(vault_leaves(ended(make_data())), place)
    return place


def test_a_dataset_that_is_not_what_is_published_is_noticed(vault, capsys):
    assert dataset.main(["inspect", "--no-png", str(vault)]) == 0
    out = capsys.readouterr().out
    assert "published         5000 episodes, 253992 steps, return 12.76 +- 3.319" in out
    assert "episodes: 6 here, 5000 published; transitions: 20 here, 253992 published" in out
    assert "distinct pairs of state and joint action: 100.0 % here, 12.3 % published" in out


def test_training_warns_of_it_too(vault, caplog):
    args = make_args("bc", "bridge_offline", env_args={"dataset": str(vault)})
    with caplog.at_level(logging.WARNING):
        find_dataset(args, None, vault)
    assert "not what is published of cfcql/smac_v1/2s3z/Medium" in caplog.text


def test_a_dataset_as_published_agrees(vault, monkeypatch, capsys):
    data = make_data()
    numbers = published.Published(
        name="cfcql/smac_v1/2s3z/Medium",
        mean=float(data.returns.mean()),
        std=float(data.returns.std()),
        min=float(data.returns.min()),
        max=float(data.returns.max()),
        transitions=20,
        episodes=6,
        distinct_pairs=1.0,
    )
    monkeypatch.setattr(published, "all_published", lambda: {numbers.name: numbers})
    assert dataset.main(["inspect", "--no-png", str(vault)]) == 0
    assert "this dataset: agrees" in capsys.readouterr().out


def test_repeated_episodes_are_counted(data, tmp_path, capsys):
    write_h5(subset_of(data, np.array([0, 1, 0, 2, 0, 1])), tmp_path / "x.h5")
    with open_dataset(tmp_path / "x.h5") as reader:
        assert statistics(reader).distinct_episodes == 3
    assert dataset.main(["inspect", "--no-png", str(tmp_path / "x.h5")]) == 0
    assert "episodes          3 distinct, 3 repeat another one" in capsys.readouterr().out
    assert "3 of the 6 episodes repeat another one" in validate(tmp_path / "x.h5").remarks


@pytest.mark.parametrize("name", ["state", "actions", "reward"])
def test_episodes_that_differ_in_one_number_are_distinct(data, tmp_path, name):
    twice = subset_of(data, np.array([0, 0]))
    place = twice.starts[1] + 1
    if name == "actions":
        twice.avail_actions[:] = True
        twice.actions[place, 0] = (twice.actions[place, 0] + 1) % 4
    else:
        getattr(twice, name)[place] += 1
    write_h5(twice, tmp_path / "x.h5")
    with open_dataset(tmp_path / "x.h5") as reader:
        assert statistics(reader).distinct_episodes == 2


@pytest.mark.parametrize(
    ("name", "factor", "remark"),
    [
        ("reward", 1e6, "rewards reach"),
        ("reward", 1e-6, "rewards are at most"),
        ("obs", 200, "observations reach"),
        ("state", 1e4, "states reach"),
        ("reward", 1, ""),
    ],
)
def test_unusual_magnitudes_are_remarked(data, tmp_path, caplog, name, factor, remark):
    setattr(data, name, getattr(data, name) * np.float32(factor))
    path = tmp_path / "x.h5"
    write_h5(data, path)
    found = [text for text in validate(path).remarks if "reach" in text or "at most" in text]
    args = make_args("bc", "bridge_offline", env_args={"dataset": str(path)})
    with caplog.at_level(logging.WARNING):
        find_dataset(args, None, tmp_path)
    if remark:
        assert found[0].startswith(remark)
        assert f"{path}: {remark}" in caplog.text
    else:
        assert not found
        assert not caplog.text


def test_the_largest_value_may_be_negative(data):
    data.reward[0] = -5000
    assert largest(data)["reward"] == 5000
    assert list(remarks(largest(data)))
