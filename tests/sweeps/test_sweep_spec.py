"""The YAML of a sweep, and the cells and runs that it describes."""

import pytest

from inspo.sweeps.command import make_parser, read_arguments, split_words
from inspo.sweeps.plan import make_cells, make_plan
from inspo.sweeps.spec import read_spec, spec_from
from inspo.utils.errors import ConfigError
from inspo.utils.words import as_word, parse_words

XOR = {"algorithms": ["inspo", "bc"], "environments": ["xor_offline"], "datasets": ["a", "b"]}


def labels(**values) -> list[str]:
    return [cell.label for cell in make_cells(spec_from({**XOR, **values}))]


def test_every_algorithm_on_every_dataset_with_every_seed():
    plan = make_plan(spec_from({**XOR, "seeds": "0-2"}))
    assert len(plan) == 2 * 2 * 3
    assert [run.seed for run in plan[:4]] == [0] * 4  # the whole table first
    assert {run.config.seed for run in plan} == {0, 1, 2}
    assert {run.config.env_args["dataset"] for run in plan} == {"a", "b"}
    assert len({run.id for run in plan}) == len({run.identity for run in plan}) == len(plan)


@pytest.mark.parametrize(
    ("written", "seeds"),
    [(3, [3]), ("0-4", [0, 1, 2, 3, 4]), ([5, 7], [5, 7]), (["0-1", 9], [0, 1, 9])],
)
def test_seeds(written, seeds):
    assert spec_from({**XOR, "seeds": written}).seeds == seeds


@pytest.mark.parametrize(
    "written", ["4-0", [1, 1], ["0-3", 2], [], -1, "x", 2**32, "0-999999999", True]
)
def test_wrong_seeds(written):
    with pytest.raises(ConfigError, match="seeds"):
        spec_from({**XOR, "seeds": written})


def test_an_algorithm_may_have_a_grid_of_its_own():
    algorithms = {"bc": None, "inspo": {"grid": {"updates_per_agent": [1, 100]}}}
    found = labels(algorithms=algorithms, datasets="b")
    assert found == [
        "bc xor_offline dataset=b",
        "inspo xor_offline dataset=b updates_per_agent=1",
        "inspo xor_offline dataset=b updates_per_agent=100",
    ]


def test_an_environment_may_have_datasets_of_its_own():
    environments = {"xor_offline": None, "mne_offline": {"datasets": ["balanced"]}}
    found = labels(algorithms="bc", environments=environments)
    assert found == [
        "bc xor_offline dataset=a",
        "bc xor_offline dataset=b",
        "bc mne_offline dataset=balanced",
    ]


def test_later_settings_win():
    """Of the sweep, the environment, the algorithm, the grid, and the overrides in their order."""
    spec = spec_from(
        {
            "algorithms": {"bc": {"settings": {"lr": 3, "gamma": 0.3}}},
            "environments": {"xor_offline": {"settings": {"lr": 2, "gamma": 0.2, "t_max": 2}}},
            "settings": {"lr": 1, "gamma": 0.1, "t_max": 1, "batch_size": 1},
            "grid": {"lr": [4, 5]},
            "overrides": [
                {"where": {"lr": 5}, "settings": {"batch_size": 50}},
                {"where": {"algorithm": "bc", "lr": [5, 6]}, "settings": {"batch_size": 60}},
            ],
        }
    )
    found = [run.config for run in make_plan(spec)]
    assert [(c.lr, c.gamma, c.t_max, c.batch_size) for c in found] == [
        (4, 0.3, 2, 1),
        (5, 0.3, 2, 60),
    ]


def test_overrides_skip_cells():
    skipped = {"where": {"algorithm": "bc", "dataset": "a"}, "skip": True}
    assert "bc xor_offline dataset=a" not in labels(overrides=[skipped])
    assert len(labels(overrides=[skipped])) == 3


def test_an_override_of_no_cell_is_refused():
    override = {"where": {"algorithms": "bc"}, "settings": {"lr": 1}}
    with pytest.raises(ConfigError, match="describes no cell; did you mean 'algorithm'"):
        labels(overrides=[override])


def test_all_problems_of_all_cells_at_once():
    spec = spec_from({**XOR, "settings": {"updates_per_agent": 2, "lr": -1}})
    with pytest.raises(ConfigError) as caught:
        make_plan(spec)
    text = str(caught.value)
    assert "bc xor_offline dataset=a, bc xor_offline dataset=b: wrong settings" in text
    assert "unknown key 'updates_per_agent'" in text
    assert "inspo xor_offline dataset=a" in text
    assert text.count("lr: Input should be greater than 0") == 2


def test_unknown_keys_and_values_of_the_sweep_itself():
    with pytest.raises(ConfigError) as caught:
        spec_from({**XOR, "seed": 1, "at_once": 0, "resources": {"gpus": 1.5}, "name": "../x"})
    for key in ("unknown key 'seed'", "at_once: ", "resources.gpus: above 1", "name: "):
        assert key in str(caught.value)


@pytest.mark.parametrize("key", ["seed", "checkpoint_path", "evaluate"])
def test_settings_that_the_sweep_gives_are_refused(key):
    with pytest.raises(ConfigError, match=key):
        spec_from({**XOR, "settings": {key: 1}})


def test_the_folder_of_the_runs_belongs_to_the_sweep():
    setting = {"local_results_path": "elsewhere"}
    spec_from({**XOR, "settings": setting})
    for wrong in (
        {"algorithms": {"bc": {"settings": setting}}},
        {"grid": {"local_results_path": ["x", "y"]}},
    ):
        with pytest.raises(ConfigError, match="local_results_path: a sweep has one folder"):
            spec_from({**XOR, **wrong})


def test_a_setting_in_both_forms_is_refused():
    settings = {"env_args": {"dataset": "a"}, "env_args.dataset": "b"}
    with pytest.raises(ConfigError, match=r"given twice: env_args\.dataset"):
        spec_from({**XOR, "settings": settings})


def test_labels_tell_what_an_override_changed():
    override = {"where": {"hidden_dim": 32}, "settings": {"hidden_dim": 16}}
    found = labels(
        algorithms="bc", datasets="a", grid={"hidden_dim": [32, 64]}, overrides=[override]
    )
    assert found == [
        "bc xor_offline dataset=a hidden_dim=16",
        "bc xor_offline dataset=a hidden_dim=64",
    ]


@pytest.mark.parametrize("dataset", [None, ""])
def test_offline_runs_without_a_dataset_are_refused(dataset):
    with pytest.raises(ConfigError, match="learns offline, and has no dataset"):
        make_plan(spec_from({**XOR, "datasets": [], "settings": {"env_args.dataset": dataset}}))


def test_equal_runs_are_refused():
    with pytest.raises(ConfigError, match="are the same run"):
        make_plan(spec_from({**XOR, "grid": {"save_model": [True, False]}}))


def test_yamls_lie_beside_the_sweeps(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: bc\nname: mine\nlr: 0.1\n")
    (tmp_path / "trial.yaml").write_text(
        "algorithms: [mine.yaml, bc]\nenvironments: xor_offline\nsettings: {t_max: 7}\n"
    )
    (tmp_path / "trial.yaml").rename(tmp_path / "my trial.yaml")
    spec = read_spec(tmp_path / "my trial.yaml")
    assert spec.name == "my-trial"
    assert [(run.config.name, run.config.lr) for run in make_plan(spec)] == [
        ("mine", 0.1),
        ("bc", 0.005),
    ]


def test_the_command_line_describes_the_same_sweep():
    words = "--config=inspo,bc --env-config=xor_offline --seeds=0-1,5 with env_args.dataset=a,b"
    options, settings = make_parser().parse_with_settings([*words.split(), "t_max=7"])
    spec = read_arguments(options, settings)
    assert spec.seeds == [0, 1, 5]
    same = spec_from({**XOR, "seeds": [0, 1, 5], "settings": {"t_max": 7}})
    assert [run.config for run in make_plan(spec)] == [run.config for run in make_plan(same)]


def test_values_that_are_missing_beside_a_comma():
    with pytest.raises(ConfigError, match="lr=1,,2: a value is missing"):
        split_words(["lr=1,,2"])
    options, settings = make_parser().parse_with_settings(["--config=bc,", "--env-config=lbf"])
    with pytest.raises(ConfigError, match="a list must hold names"):
        read_arguments(options, settings)


def test_commas_within_a_value_are_no_list():
    words = ["lr=0.1, 0.2", "payoff=[[0,1],[1,-2]]", "name='a,b'", "x={'a': 1, 'b': 2}"]
    settings, grid = split_words(words)
    assert grid == {"lr": [0.1, 0.2]}
    assert settings == {"payoff": [[0, 1], [1, -2]], "name": "a,b", "x": {"a": 1, "b": 2}}


def test_lists_of_lists():
    _, grid = split_words(["payoff=[0,1],[1,2]"])
    assert grid == {"payoff": [[0, 1], [1, 2]]}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "give a YAML, or --config and --env-config"),
        (["--config=bc"], "give a YAML, or --env-config"),
        (["x.yaml", "--config=bc"], "either a YAML, or"),
        (["--config=bc", "--env-config=xor_offline", "with", "lr"], "not of the form"),
        (["--config=bc", "--env-config=xor_offline", "with", "lr=1", "lr=2"], "given twice"),
    ],
)
def test_wrong_command_lines(words, text):
    options, settings = make_parser().parse_with_settings(words)
    with pytest.raises(ConfigError, match=text):
        read_arguments(options, settings)


@pytest.mark.parametrize(
    "value", ["b", "02", "None", " x ", "a b", "[1]", 1, 1e-4, None, True, [0, "x"], {"a": "b"}]
)
def test_words_hold_any_value(value):
    assert parse_words([as_word("key", value)]) == {"key": value}
