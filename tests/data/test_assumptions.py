"""Padded arrays that lack something: refused with a way out, and converted on request."""

import re

import h5py
import numpy as np
import pytest
from conftest import make_data
from public_layouts import ended, padded_arrays, write_alberdice

from inspo import dataset
from inspo.data.formats import load_dataset, write_h5
from inspo.data.formats.schema import same_content
from inspo.utils.errors import DatasetError

pytestmark = pytest.mark.usefixtures("_no_child")


def onehot(arrays):
    return (arrays["actions"] == np.arange(4)).astype(np.float32)


def early(arrays):
    """Flags at the first step of each episode, too."""
    flags = arrays["terminated"].copy()
    flags[1:, 0] = 1
    return flags


def beyond(values, number):
    """The values, with `number` in place of the first one."""
    values = values.copy()
    values.flat[0] = number
    return values


def zero_final(arrays, name):
    values = arrays[name].copy()
    values[np.arange(6), arrays["filled"].sum((1, 2)) - 1] = 0
    return values


def final_reward(arrays):
    """Rewards one row late."""
    return np.concatenate([arrays["reward"][:, :1] * 0, arrays["reward"][:, :-1]], axis=1)


def all_agents(arrays):
    return np.repeat(arrays["terminated"], 3, axis=2)


def squeezed(name):
    return lambda arrays: {name: arrays[name][..., 0]}


# What is changed in valid arrays (None: left out), the option that the refusal names, and the
# fields that become other ones.
CASES = {
    "no state": (lambda a: {"state": None}, "state=obs", {"state"}),
    "empty state": (lambda a: {"state": a["state"][..., :0]}, "state=obs", {"state"}),
    "state of agents": (
        lambda a: {"state": a["state"].reshape(*a["state"].shape[:2], 7, 1)},
        "state=flat",
        set(),
    ),
    "no masks": (lambda a: {"avail_actions": None}, "avail=all", {"avail_actions"}),
    "masks of zeros": (
        lambda a: {"avail_actions": a["avail_actions"] * 0},
        "avail=all",
        {"avail_actions"},
    ),
    "no final masks": (
        lambda a: {"avail_actions": zero_final(a, "avail_actions"), "terminated": a["filled"] * 0},
        "avail=final",
        {"terminated", "truncated", "avail_actions"},
    ),
    "one-hot only": (
        lambda a: {"actions": None, "actions_onehot": onehot(a)},
        "actions=onehot",
        set(),
    ),
    "one-hot as actions": (lambda a: {"actions": onehot(a)}, "actions=onehot", set()),
    "from 1": (lambda a: {"actions": a["actions"] + 1}, "actions=from1", set()),
    "no end": (lambda a: {"terminated": None}, "terminated=last", set()),
    "no end, cut": (
        lambda a: {"terminated": None},
        "terminated=none",
        {"terminated", "truncated"},
    ),
    "flags of agents": (lambda a: {"terminated": all_agents(a)}, "terminated=all", set()),
    "several flags": (lambda a: {"terminated": early(a)}, "terminated=last", set()),
    "flags that stay": (
        lambda a: {"terminated": np.maximum.accumulate(a["terminated"], axis=1)},
        "terminated=first",
        set(),
    ),
    "no mask of filled rows": (lambda a: {"filled": None}, "filled=terminated", set()),
    "image": (
        lambda a: {"obs": a["obs"].reshape(*a["obs"].shape[:3], 5, 1)},
        "obs=flat",
        set(),
    ),
    "infinite padding": (
        lambda a: {"obs": beyond(a["obs"], np.inf)},
        "nonfinite=zero",
        {"obs"},
    ),
    "late rewards": (lambda a: {"reward": final_reward(a)}, "reward=late", set()),
    "squeezed actions": (squeezed("actions"), "axes=squeezed", set()),
    "squeezed reward": (squeezed("reward"), "axes=squeezed", set()),
    "squeezed filled": (squeezed("filled"), "axes=squeezed", set()),
}


def write_changed(layout, data, path, change):
    """Writes padded arrays with a change, as h5, npz or npy files."""
    arrays = padded_arrays(data)
    changed = change(arrays)
    if layout == "npy":
        write_alberdice(data, path, **changed)
        return
    arrays = {name: array for name, array in {**arrays, **changed}.items() if array is not None}
    if layout == "npz":
        np.savez(path.open("wb"), **arrays)
        return
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", ["h5", "npz", "npy"])
def test_what_is_lacking_is_assumed_on_request_only(tmp_path, capsys, layout, case):
    change, option, other_fields = CASES[case]
    if layout == "npy" and case == "one-hot only":
        pytest.skip("AlberDICE's folders have indices")
    data = ended(make_data())
    source, target = tmp_path / "source", tmp_path / "target.h5"
    write_changed(layout, data, source, change)
    assert dataset.main(["convert", str(source), str(target)]) == 2
    error = capsys.readouterr().err
    assert not target.exists()
    assert f"--assume {option} (" in error
    assert dataset.main(["convert", str(source), str(target), "--assume", option]) == 0
    converted = load_dataset(target)
    assert converted.metadata["assumed"] == [option]
    for name in other_fields:
        setattr(data, name, getattr(converted, name))
    assert same_content(converted, data) == ""


def test_several_things_may_be_assumed(tmp_path):
    data = ended(make_data())
    change = {"state": None, "avail_actions": None, "terminated": None, "filled": None}
    write_changed("h5", data, tmp_path / "source", lambda arrays: change)
    options = ["state=obs", "avail=all", "terminated=last", "filled=all"]
    given = [word for option in options for word in ("--assume", option)]
    target = tmp_path / "target.h5"
    assert dataset.main(["convert", str(tmp_path / "source"), str(target), *given]) == 0
    converted = load_dataset(target)
    np.testing.assert_array_equal(converted.lengths, [5] * 6)
    np.testing.assert_array_equal(converted.state, converted.obs.reshape(len(converted.obs), -1))
    assert converted.avail_actions.all()
    assert converted.avail_actions.shape[-1] == data.actions.max() + 1


def test_a_lost_file_of_observations_is_not_replaced_by_the_state_in_silence(data, tmp_path):
    write_alberdice(data, tmp_path / "buffer", obs=None)
    with pytest.raises(DatasetError, match=r"'obs': missing.*--assume obs=state"):
        load_dataset(tmp_path / "buffer")
    target = tmp_path / "target.h5"
    given = ["convert", str(tmp_path / "buffer"), str(target), "--assume", "obs=state"]
    assert dataset.main(given) == 0
    loaded = load_dataset(target)
    np.testing.assert_array_equal(loaded.obs, np.repeat(loaded.state[:, None], 3, axis=1))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("state=everything", r"unknown: --assume state=everything. Possible are:\s+axes=squeezed"),
        ("actions=onehot", "there are no one-hot actions"),
    ],
)
def test_wrong_assumptions_are_refused(data, tmp_path, capsys, option, message):
    write_changed("h5", data, tmp_path / "source", lambda arrays: {})
    target = tmp_path / "target.h5"
    given = ["convert", str(tmp_path / "source"), str(target), "--assume", option]
    assert dataset.main(given) == 2
    assert re.search(message, capsys.readouterr().err)


def test_continuous_actions_are_not_taken_for_one_hot_ones(data, tmp_path, capsys):
    write_changed("h5", data, tmp_path / "x", lambda a: {"actions": onehot(a) * 0.5})
    given = ["convert", str(tmp_path / "x"), str(tmp_path / "y.h5"), "--assume", "actions=onehot"]
    assert dataset.main(given) == 2
    assert "they are not one-hot: continuous actions?" in capsys.readouterr().err


def test_layouts_that_lack_nothing_take_no_assumptions(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    given = ["convert", str(tmp_path / "own.h5"), str(tmp_path / "y.h5"), "--assume", "avail=all"]
    assert dataset.main(given) == 2
    assert "--assume is for padded arrays" in capsys.readouterr().err
