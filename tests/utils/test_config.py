"""Settings: what wins, what is refused, and that every shipped key is read."""

import pytest
from conftest import make_args

from inspo.learners import REGISTRY
from inspo.main import make_parser, parse
from inspo.utils.config import CONFIG_DIR, RunConfig, available, merge, read_yaml, suggestion
from inspo.utils.errors import ConfigError

COMMAND = ["--config=inspo", "--env-config=xor_offline"]


def test_precedence(tmp_path):
    """default < environment < algorithm < its per_env section < command line."""
    environment, algorithm = tmp_path / "env.yaml", tmp_path / "alg.yaml"
    environment.write_text(
        "env: bridge\nper_env: mine\nenv_args: {dataset: mixed}\n"
        "grad_norm_clip: 0\ngamma: 0.5\nhidden_dim: 8\n"
    )
    base = "name: bc\nlearner: bc_learner\n"
    algorithm.write_text(
        base + "hidden_dim: 16\nlr: 0.1\nper_env:\n  mine:\n    lr: 0.2\n    seed: 4\n"
    )
    command = [f"--config={algorithm}", f"--env-config={environment}"]
    args = parse([*command, "with", "seed=5"])
    assert args.grad_norm_clip == 0  # environment over default
    assert (args.gamma, args.hidden_dim, args.lr, args.seed) == (0.5, 16, 0.2, 5)
    assert parse(command).seed == 4
    assert args.env_config == "env"


def test_nested_overrides_leave_their_neighbours():
    args = parse(
        [*COMMAND, "with", "env_args.dataset=a", "t_max=1e3", "lr=3e-4", "use_tensorboard=False"]
    )
    assert args.env_args["dataset"] == "a"
    assert args.env_args["n_agents"] == 2
    assert (args.t_max, args.lr, args.use_tensorboard) == (1000, 3e-4, False)


def test_3e_4_is_a_number_in_a_yaml_too(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("name: mine\nlearner: bc_learner\nlr: 3e-4\nenv_args: {episode_limit: 2e1}\n")
    assert read_yaml(file)["lr"] == 3e-4
    assert read_yaml(file)["env_args"]["episode_limit"] == 20
    assert parse([f"--config={file}", "--env-config=bridge_offline"]).lr == 3e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config=inspoo", "--env-config=xor_offline"],
            "there is no such algorithm; did you mean 'inspo'",
        ),
        (
            ["--config=inspo", "--env-config=xor"],
            "there is no such environment; did you mean 'xor_offline'",
        ),
        (
            [*COMMAND, "with", "aplha=1"],
            "unknown key 'aplha' in the given settings; did you mean 'alpha'",
        ),
        (
            [*COMMAND, "with", "env_args.datset=a"],
            "unknown key 'env_args.datset' in the given settings.*'dataset'",
        ),
        (
            ["--config=bc", "--env-config=xor_offline", "with", "cql_weight=1"],
            "unknown key 'cql_weight'",
        ),
        (
            [*COMMAND, "with", "learner=inspo_lerner"],
            "unknown learner 'inspo_lerner'; did you mean 'inspo_learner'",
        ),
        ([*COMMAND, "with", "env=brigde"], "unknown env 'brigde'; did you mean 'bridge'"),
        ([*COMMAND, "with", "t_max=many"], "t_max: .*valid integer.*given: 'many'"),
        ([*COMMAND, "with", "lr=-1"], "lr: .*greater than 0"),
        ([*COMMAND, "with", "gamma=2"], "gamma: .*less than or equal to 1"),
        ([*COMMAND, "with", "lr=nan"], "lr: "),
        ([*COMMAND, "with", "order=greediest"], "order: .*'greedy' or 'semi_greedy'"),
        ([*COMMAND, "with", "alpha=0", "beta=0"], "alpha and beta are both 0"),
        ([*COMMAND, "with", "agent=rnn"], "agent=rnn needs batch_unit=episodes"),
        ([*COMMAND, "with", "seed"], "'seed' after `with` is not of the form key=value"),
        ([*COMMAND, "with", "alpha=tund"], "alpha: .*valid number.*, or: .*'tuned' .given: 'tund'"),
        ([*COMMAND, "with", "td_lambda=0.5"], "td_lambda=0.5 needs batch_unit=episodes"),
        ([*COMMAND, "seed=3"], "unknown argument 'seed=3'; settings go after"),
        (
            ["--config=inspo", "--env_config=xor_offline"],
            "argument '--env_config'; did you mean '--env-config'",
        ),
        (["--config=InSPO", "--env-config=xor_offline"], "no such algorithm; did you mean 'inspo'"),
        (["--config=inspo"], "--env-config=NAME is missing"),
        ([*COMMAND, "--env-config"], "--env-config: expected one argument"),
        ([*COMMAND, "with", "runner=foo"], "unknown runner 'foo'"),
        ([*COMMAND, "with", "mac=basic"], "unknown mac 'basic'; did you mean 'basic_mac'"),
        (
            [*COMMAND, "with", "updates_per_agent=300"],
            "t_max=2000 must be a multiple of updates_per_agent=300",
        ),
        ([*COMMAND, "with", "env_args=3"], "env_args must be a mapping"),
    ],
)
def test_a_wrong_command_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse(arguments)


def test_the_users_home_is_found_where_a_shell_does_not_write_it_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("name: mine\nlearner: bc_learner\n")
    paths = [
        "local_results_path=~/results",
        "checkpoint_path=~/run",
        "dataset_root=~/data",
        "env_args.dataset=~/x.h5",
    ]
    args = parse(["--config=~/mine.yaml", "--env-config=xor_offline", "with", *paths])
    found = [
        args.local_results_path,
        args.checkpoint_path,
        args.dataset_root,
        args.env_args["dataset"],
    ]
    assert found == [str(tmp_path / name) for name in ("results", "run", "data", "x.h5")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cannot read"),
        (
            "name: x\nlearner: bc_learner\nper_env: 5",
            "per_env of .* must map environments to settings",
        ),
        ("just text", "must hold `key: value` lines"),
        ("lr: 1\nlr: 2", "key 'lr' is written twice, with different values"),
        ("env_args: {}\nenv_args: {}", "key 'env_args' is written twice"),
        ("a: !!python/object/apply:os.system ['true']", "cannot read"),
    ],
)
def test_a_wrong_yaml_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse([f"--config={file}", "--env-config=xor_offline"])


def test_an_unknown_key_in_a_yaml_names_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nlearner: bc_learner\nlrr: 0.1\n")
    with pytest.raises(
        ConfigError, match=r"unknown key 'lrr' in --config=.*mine\.yaml; did you mean 'lr'"
    ):
        parse([f"--config={file}", "--env-config=xor_offline"])


def test_all_unknown_keys_are_reported_at_once(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nlearner: bc_learner\nlrr: 0.1\n")
    with pytest.raises(ConfigError) as caught:
        parse(
            [f"--config={file}", "--env-config=xor_offline", "with", "sed=1", "env_args.datset=a"]
        )
    for key in ("lrr", "sed", "env_args.datset"):
        assert f"unknown key '{key}'" in str(caught.value)


def test_every_shipped_combination_is_valid():
    for algorithm in available("algs"):
        for environment in available("envs"):
            assert isinstance(make_args(algorithm, environment), RunConfig)


def test_in_battles_every_algorithm_shares_its_policies():
    """Else a table compares sharing with not sharing. AlberDICE refuses to share."""
    names = available("algs")
    alone = [name for name in names if not make_args(name, "sc2_offline").share_parameters]
    assert alone == ["alberdice"]


def test_every_shipped_key_is_read():
    source = "\n".join(
        path.read_text() for path in CONFIG_DIR.parent.rglob("*.py") if path.name != "config.py"
    )
    keys = {key for learner in REGISTRY.values() for key in learner.Config.model_fields}
    unread = [key for key in keys if f"args.{key}" not in source and f'"{key}"' not in source]
    assert not unread


def test_every_algorithm_and_environment_says_what_it_is():
    text = make_parser().format_help()
    for kind in ("algs", "envs"):
        for name, description in available(kind).items():
            assert name in text
            assert len(description) > 10


def test_merge_changes_neither_side():
    base, update = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}
    assert merge(base, update) == {"a": {"b": 3, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}


def test_suggestion():
    assert suggestion("t_mx", ["t_max", "seed"]) == "; did you mean 't_max'?"
    assert suggestion("zzz", ["t_max", "seed"]) == "; known: seed, t_max"
