"""Checkpoints that were edited by hand, or are something else: one clear error, no traceback."""

import copy
import os
import zipfile
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch as th
from conftest import make_args

from inspo.run.checkpoint import check_fits, find_checkpoint, load_checkpoint, policy_of
from inspo.run.run import make_session
from inspo.utils.errors import UserError

N_MUTANTS = int(os.environ.get("FUZZ_N", 25))
OFFLINE = {"hidden_dim": 4, "batch_size": 4, "t_max": 4, "log_interval": 2, "test_nepisode": 2}
ONLINE = {
    "hidden_dim": 4,
    "batch_size": 4,
    "buffer_size": 16,
    "n_parallel": 4,
    "t_max": 16,
    "learning_starts": 4,
    "log_interval": 8,
    "test_nepisode": 2,
    "save_model_interval": 8,
}
ON_POLICY = {
    "hidden_dim": 4,
    "critic_hidden_dim": 4,
    "batch_size": 4,
    "n_parallel": 4,
    "t_max": 16,
    "log_interval": 8,
    "test_nepisode": 2,
    "save_model_interval": 8,
    "medium_score": 9.0,
}
OTHER_TYPES = [
    None,
    True,
    -1,
    7,
    10**9,
    0.5,
    float("nan"),
    "text",
    "x" * 5000,
    [],
    {},
    [1, 2],
    {"a": 1},
    {1: 2},
    th.zeros(3),
    th.zeros(2, 2, dtype=th.uint8),
    th.zeros(1).expand(10**6, 10**6),
]


def deep(levels=3000):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def trained(tmp_path_factory, args):
    folder = tmp_path_factory.mktemp("trained")
    session = make_session(args)
    session.start(folder)
    session.close()
    return find_checkpoint(folder)


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Settings of an offline run, and its checkpoint."""
    root = tmp_path_factory.mktemp("dataset")
    settings = {**OFFLINE, "dataset_root": str(root), "use_tensorboard": False}
    args = make_args("bc", "xor_offline", **settings)
    return args, trained(tmp_path_factory, args)


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    args = make_args("qmix", "xor_offline", **ONLINE, use_tensorboard=False)
    return args, trained(tmp_path_factory, args)


@pytest.fixture(scope="module")
def on_policy(tmp_path_factory):
    args = make_args("mappo", "xor_offline", **ON_POLICY, use_tensorboard=False)
    return args, trained(tmp_path_factory, args)


def paths(content, prefix=()):
    """The places of all values in nested mappings and lists."""
    if isinstance(content, dict):
        entries = content.items()
    elif isinstance(content, list):
        entries = enumerate(content)
    else:
        return
    for key, value in entries:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


def mutant(content, rng):
    """A copy with one value replaced or removed, or a key added."""
    changed = copy.deepcopy(content)
    places = list(paths(changed))
    *parents, key = places[rng.integers(len(places))]
    container = changed
    for parent in parents:
        container = container[parent]
    kind = rng.integers(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[OTHER_TYPES[rng.integers(9)]] = 1
    elif kind == 2:
        container[key] = deep()
    else:
        container[key] = OTHER_TYPES[rng.integers(len(OTHER_TYPES))]
    return changed, (*parents, key)


def use(path, args, folder):
    """All that is done with a checkpoint: its policy is loaded, and the run resumed."""
    content = load_checkpoint(path)
    policy_of(content, path)
    args = args.model_copy(update={"checkpoint_path": str(path), "t_max": content["step"] + 8})
    session = make_session(args)
    info = session.env.get_env_info()
    check_fits(content, path, args, info, session.fingerprint)
    folder.mkdir(exist_ok=True)
    session.start(folder)
    session.close()


@pytest.mark.usefixtures("_no_child")
@pytest.mark.parametrize("kind", ["offline", "online", "on_policy"])
def test_mutated_checkpoints_work_or_are_refused(tmp_path, request, kind, monkeypatch):
    monkeypatch.setattr("inspo.run.session.draw_curves", lambda *_: None)
    monkeypatch.setattr("inspo.run.session.software_versions", dict)  # asks git
    args, path = request.getfixturevalue(kind)
    content = th.load(path, weights_only=True)
    file = tmp_path / path.name
    if kind == "online":
        os.link(path.with_suffix(".replay"), file.with_suffix(".replay"))
    rng = np.random.default_rng(int(os.environ.get("FUZZ_SEED", 0)))
    n_refused = 0
    for _ in range(N_MUTANTS):
        changed, where = mutant(content, rng)
        try:
            th.save(changed, file)
        except RecursionError:  # pickle cannot write it, so nobody can
            continue
        message = ""
        try:
            use(file, args, tmp_path / "run")
        except UserError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{where} -> {type(error).__name__}: {error}") from error
        n_refused += bool(message)
        assert len(message) < 3000, where
    assert n_refused > N_MUTANTS / 3


def test_a_checkpoint_that_unpacks_to_more_than_the_memory(tmp_path, monkeypatch):
    """Torch does not compress, but would read it."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(3 << 20))
    with pytest.raises(UserError, match=r"bomb\.pt unpacks to 0\.0 GiB; 0\.0 GiB are free"):
        load_checkpoint(tmp_path / "bomb.pt")
