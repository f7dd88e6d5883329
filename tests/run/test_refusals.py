"""What cannot run is one message and exit status 2, and leaves no run folder."""

import sys
from importlib.util import find_spec

import pytest
from conftest import make_args

from inspo import main
from inspo.data.catalogue import find_dataset
from inspo.envs import REGISTRY, without_dataset

TINY = [
    "hidden_dim=16",
    "batch_size=16",
    "t_max=4",
    "log_interval=2",
    "save_model_interval=2",
    "test_nepisode=0",
    "use_tensorboard=False",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds a finished run of BC in results/, and its dataset."""
    folder = tmp_path_factory.mktemp("refusals")
    assert main.main(arguments(folder, results="results")) == 0
    return folder


@pytest.fixture
def run(folder):
    return next((folder / "results").iterdir())


def arguments(folder, *settings, environment="xor_offline", results="wrong"):
    where = [f"local_results_path={folder / results}", f"dataset_root={folder / 'dataset'}"]
    return ["--config=bc", f"--env-config={environment}", "with", *TINY, *where, *settings]


@pytest.fixture
def refused(folder, capsys):
    """Runs settings that must be refused; returns the message."""

    def refused(*settings, **names):
        assert main.main(arguments(folder, *settings, **names)) == 2
        assert not list((folder / "wrong").glob("*"))
        message = capsys.readouterr().err
        assert "Traceback" not in message
        return message

    return refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=bc", "--env-config=xor_offlin"], "did you mean 'xor_offline'?"),
        (["--config=bc", "--env-config=xor_offline", "with", "a=1"], "unknown key 'a'"),
        (["--config=bc"], "--env-config=NAME is missing"),
    ],
)
def test_a_wrong_argument_is_one_line(capsys, words, message):
    assert main.main(words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("ConfigError: ")
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_a_wrong_dataset_name(refused):
    message = refused("env_args.dataset=d")
    assert "env_args.dataset=d: neither a dataset of xor_offline (in /" in message
    assert "/xor_offline) nor an existing path; known: a, b, c" in message


def test_settings_that_a_network_refuses(refused):
    message = refused("mac=non_shared_mac", "share_parameters=True")
    assert "mac=non_shared_mac has one network per agent" in message


def test_a_learner_whose_constructor_fails_leaves_no_folder(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("inspo.learners.bc_learner.BCLearner.__init__", fail)
    with pytest.raises(RuntimeError, match="broken"):
        main.main(arguments(folder))
    assert not list((folder / "wrong").glob("*"))


def test_a_replay_buffer_beyond_the_memory(folder, capsys):
    words = arguments(folder, "buffer_size=1000000000", environment="xor_offline")
    words[0] = "--config=qmix"
    assert main.main(words) == 2
    assert "buffer_size" in capsys.readouterr().err
    assert not list((folder / "wrong").glob("*"))


@pytest.mark.usefixtures("_no_child")
def test_a_damaged_dataset(refused, tmp_path):
    args = make_args("bc", "xor_offline")
    env = REGISTRY["matrix_game"](**without_dataset(args.env_args))
    data = find_dataset(args, env, tmp_path)
    (path,) = tmp_path.rglob("*.h5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in refused(f"env_args.dataset={data.path}")


@pytest.mark.skipif(not find_spec("jaxmarl"), reason="needs jaxmarl, for Python 3.11 and later")
@pytest.mark.parametrize("environment", ["sc2_offline", "sc2"])
def test_a_missing_map(refused, environment):
    settings = ["env_args.simulator=smax", "env_args.map_name=3n", "agent=mlp"]
    settings += ["env_args.dataset=scripted", "batch_unit=transitions"]
    assert "SMAX has no such map; did you mean '3m'" in refused(*settings, environment=environment)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lr=0.3"], "lr: 0.005 there, 0.3 here"),
        (["hidden_dim=8"], "hidden_dim: 16 there, 8 here"),
        (["env_args.payoff=[[0, 2], [1, -2]]"], "env_args.payoff: [[0, 1], [1, -2]] there"),
        (["env_args.dataset=b"], "the dataset's content: fingerprint"),
        (["lr_decay_steps=t_max"], "lr_decay_steps: None there, 4 here\n"),
        (["t_max=3"], "is at step 4, beyond t_max=3"),
        (["load_step=7"], "no checkpoint of step 7 found; there are step_0000000000, step_"),
        (["evaluate=True"], "a positive test_nepisode"),
        (["evaluate=True", "test_nepisode=4", "hidden_dim=8"], "hidden_dim: 16 there, 8 here"),
    ],
)
def test_a_checkpoint_that_does_not_fit(refused, run, settings, message):
    assert message in refused(f"checkpoint_path={run}", *settings)


def test_what_falls_until_t_max_cannot_go_on_beyond_it(refused, folder, tmp_path):
    falling = ["lr_decay_steps=t_max", f"local_results_path={tmp_path}"]
    assert main.main(arguments(folder, *falling)) == 0
    (run,) = tmp_path.iterdir()
    message = refused(f"checkpoint_path={run}", "t_max=8", "lr_decay_steps=t_max")
    assert "lr_decay_steps: 4 there, 8 here (it ends with t_max: for another" in message


def test_all_differences_to_the_checkpoint_are_listed(refused, run):
    message = refused(f"checkpoint_path={run}", "lr=0.3", "hidden_dim=8", "env_args.dataset=b")
    for key in ("lr: ", "hidden_dim: ", "the dataset's content: "):
        assert message.count(f"\n  {key}") == 1


def test_a_damaged_checkpoint(refused, run, tmp_path):
    content = sorted((run / "checkpoints").iterdir())[-1].read_bytes()
    damaged = {"half": content[: len(content) // 2], "empty": b"", "text": b"not a checkpoint"}
    for name, written in damaged.items():
        file = tmp_path / f"{name}.pt"
        file.write_bytes(written)
        assert "cannot be read as a checkpoint" in refused(f"checkpoint_path={file}")


def test_no_checkpoint(refused, tmp_path):
    assert "no checkpoint found" in refused(f"checkpoint_path={tmp_path}")


@pytest.mark.parametrize(
    "key", ["env_args.dataset", "checkpoint_path", "dataset_root", "local_results_path"]
)
@pytest.mark.parametrize("address", ["https://example.org/x.h5", "s3://bucket/x.h5"])
def test_an_address_where_a_path_is_needed(refused, tmp_path, monkeypatch, key, address):
    monkeypatch.chdir(tmp_path)  # where a folder called https: would be made
    assert f"ConfigError: {address}: this is an address" in refused(f"{key}={address}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["local_results_path", "dataset_root"])
def test_a_folder_that_cannot_be_written_to(refused, tmp_path, key):
    file = tmp_path / "file"
    file.write_text("in the way")
    assert f"ConfigError: {key}={file}: cannot be written to" in refused(f"{key}={file}")


def test_a_tensorboard_that_cannot_be_imported_is_named(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = refused("use_tensorboard=True")
    assert "TensorBoard cannot be imported (protobuf " in message
    assert "or set use_tensorboard=False" in message
