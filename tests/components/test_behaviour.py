"""The behaviour models: what they learn, and their cache."""

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from small_learners import make_learner

from inspo.components import behaviour
from inspo.envs import EnvInfo
from inspo.modules.behaviour import REGISTRY as JOINT_MODELS
from inspo.utils.errors import DivergenceError

COLUMNS = ("behaviour_log_probs", "teammates_log_prob")


def no_training(*_):
    raise AssertionError("a behaviour model is trained")


def test_behaviour_is_trained_once_for_all_seeds(tmp_path, monkeypatch):
    first, buffer = make_learner(tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 2
    monkeypatch.setattr(behaviour, "_train_individual", no_training)
    monkeypatch.setattr(behaviour, "_train_joint", no_training)
    second, its_buffer = make_learner(tmp_path, seed=1)
    for name in COLUMNS:
        assert th.equal(buffer.columns[name], its_buffer.columns[name])
    # A cached model leaves the run with the same random numbers as a new one.
    third, third_buffer = make_learner(tmp_path)
    stats = first.train(buffer, True)
    assert stats == third.train(third_buffer, True)
    assert stats != second.train(its_buffer, True)


@pytest.mark.parametrize("damage", ["no file of tensors", "a list", "another model's weights"])
def test_a_damaged_cache_is_trained_anew_to_the_same_model(tmp_path, damage):
    """Each model has its own random stream: it does not matter that the other one is cached."""
    _, buffer = make_learner(tmp_path)
    cached = next(tmp_path.glob("autoregressive-*.pt"))
    if damage == "no file of tensors":
        cached.write_bytes(b"damaged")
    elif damage == "a list":
        th.save([th.zeros(1)], cached)
    else:
        weights = th.load(cached, weights_only=True)
        weights.popitem()
        th.save(weights, cached)
    _, again = make_learner(tmp_path)
    assert again.fingerprint() == buffer.fingerprint()


def test_another_controller_has_its_own_models(tmp_path):
    make_learner(tmp_path)
    make_learner(tmp_path, mac="non_shared_mac")
    assert len(list(tmp_path.glob("*.pt"))) == 4


def test_the_joint_behaviour_model_finds_correlations(tmp_path):
    """In {AB, BA} an agent's action determines its teammate's, while each alone is a coin flip."""
    data = make_data(n_agents=2, n_actions=2, lengths=(1,) * 64)
    data.avail_actions[:] = True
    first = np.random.default_rng(0).integers(2, size=len(data.actions))
    data.actions = np.stack([first, 1 - first], axis=1).astype(np.uint8)
    data.state[:] = 1.0
    data.obs[:] = 1.0
    _, buffer = make_learner(tmp_path, data=data, behaviour_steps=300, behaviour_lr=0.01)
    batch = buffer.sample(64)
    assert (batch["teammates_log_prob"][:, 0] > np.log(0.95)).all()
    np.testing.assert_allclose(batch["behaviour_log_probs"][:, 0].exp(), 0.5, atol=0.1)


@pytest.mark.parametrize("name", ["autoregressive", "chain"])
def test_joint_models_learn_what_teammates_do_given_an_action(name):
    """Of three agents, the second copies the first nine times in ten. The third is independent."""
    rng = np.random.default_rng(0)
    first, third = rng.integers(2, size=(2, 2000))
    second = np.where(rng.random(2000) < 0.9, first, 1 - first)
    actions = th.from_numpy(np.stack([first, second, third], axis=-1))
    info = EnvInfo(n_agents=3, n_actions=2, obs_shape=1, state_shape=1, episode_limit=1)
    th.manual_seed(0)
    model = JOINT_MODELS[name](info, 32)
    state, available = th.ones(2000, 1), th.ones(2000, 3, 2, dtype=th.bool)
    optimiser = th.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        model.loss(state, actions, available).backward()
        optimiser.step()
    found = model.teammates_log_probs(state, actions, available).exp()
    expected = np.where(first == second, 0.9, 0.1) * 0.5
    np.testing.assert_allclose(found.detach(), np.stack([expected] * 3, axis=-1), atol=0.06)


def test_a_model_that_is_not_finite_is_an_error_and_not_cached(tmp_path):
    data = make_data()
    data.obs[:] = 255
    with pytest.raises(DivergenceError, match=r"'individual' diverged.*obs up to 255") as error:
        make_learner(tmp_path, data=data, behaviour_lr=1e30)
    assert "lower behaviour_lr=1e+30" in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), 1e38])
@pytest.mark.parametrize("name", ["individual", "autoregressive"])
def test_a_cached_model_that_is_not_finite_is_trained_anew(tmp_path, caplog, name, value):
    """A model of 1e38 is finite itself, and its outputs are not."""
    _, buffer = make_learner(tmp_path)
    cached = next(tmp_path.glob(f"{name}-*.pt"))
    weights = th.load(cached, weights_only=True)
    for tensor in weights.values():
        tensor.fill_(value)
    th.save(weights, cached)
    _, again = make_learner(tmp_path)
    assert again.fingerprint() == buffer.fingerprint()
    assert (
        f"{cached} is damaged, not finite or of another model: it is trained again" in caplog.text
    )
    assert all(weights.isfinite().all() for weights in th.load(cached, weights_only=True).values())


def test_a_folder_in_a_models_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, buffer = make_learner(tmp_path / "models")
    for path in (tmp_path / "models").glob("*.pt"):
        path.unlink()
        path.mkdir()
    _, again = make_learner(tmp_path / "models")
    assert again.fingerprint() == buffer.fingerprint()
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden_dim", 17),
        ("agent", "rnn"),
        ("share_parameters", True),
        ("obs_agent_id", True),
        ("obs_last_action", True),
        ("batch_unit", "episodes"),
        ("behaviour_steps", 21),
        ("behaviour_batch_size", 9),
        ("behaviour_lr", 0.5),
        ("grad_norm_clip", 0.25),
        ("chunk_length", 3),
    ],
)
def test_a_cached_model_belongs_to_its_settings(setting, value):
    """Whatever changes what is learnt makes a model of its own."""
    args = make_args("inspo")
    assert getattr(args, setting) != value
    changed = args.model_copy(update={setting: value})
    cpu = th.device("cpu")
    keys = [behaviour._cache_key(settings, "data", cpu) for settings in (args, changed)]
    assert keys[0] != keys[1]
