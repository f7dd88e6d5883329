"""Settings as users may write them: each works, or is one clear error that names its place."""

import os

import pytest

from inspo.main import make_parser
from inspo.run.settings import settings_of
from inspo.utils.errors import ConfigError
from inspo.utils.words import parse_value, parse_words

BOM = b"\xef\xbb\xbf"
LAUGHS = "".join(f"k{i}: &k{i} [*k{i - 1}, *k{i - 1}]\n" for i in range(1, 60))
MERGES = "".join(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 60))


def settings_in(tmp_path, content: str | bytes, option: str = "config"):
    """The settings with a YAML of this content for `--config` or `--env-config`."""
    mine = tmp_path / "mine.yaml"
    mine.write_bytes(content if isinstance(content, bytes) else content.encode())
    configs = {"config": "bc", "env_config": "xor_offline", option: str(mine)}
    return settings_of(configs["config"], configs["env_config"])


@pytest.mark.parametrize(
    "content",
    [
        BOM + b"base: bc\nlr: 0.25\n",
        b"base: bc\r\nlr: 0.25\r\n",
        "base: bc\nlr: 0.25\n".encode("utf-16"),
        '{"base": "bc", "lr": 0.25}',
        "---\nbase: bc\n<<: [{lr: 0.25}, {lr: 0.5}]\n...\n",
        "base: bc\n<<: {lr: 0.5}\nlr: 0.25\n",
        "%YAML 1.2\n---\nbase : bc\nlr : '0.25'\n",
        "base: bc\nlr: 25e-2\nper_env:\n",
        "base: bc\nlr: .25\nper_env: {xor_offline: }\n",
    ],
)
def test_all_ways_to_write_a_yaml_work(tmp_path, content):
    assert settings_in(tmp_path, content).lr == 0.25


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine.yaml is empty"),
        ("# nothing\n", "mine.yaml is empty"),
        ("- a\n", "mine.yaml must hold `key: value` lines; found list"),
        ("base bc\n", "found str"),
        ("base: bc\n---\nbase: bc\n", "expected a single document"),
        ("base: bc\n\tlr: 1\n", "line 2"),
        (b"base: bc # \xe9\n", "invalid continuation byte"),
        (b"base: bc\n\x00", "special characters are not allowed"),
        ("base: bc\nlr: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("base: bc\nlr: " + "[" * 60 + "]" * 60, "nested too deeply.*line 2"),
        ("base: bc\nk0: &k0 [1]\n" + LAUGHS, "more than 1,000,000 values.*line"),
        ("base: bc\nm0: &m0 {a: 1}\n" + MERGES, "more than 1,000,000 values.*line"),
        ("base: bc\nenv_args: &a {b: *a}\n", "an alias refers to what it is part of.*line 2"),
        ("base: bc\n<<: 3\n", "expected a mapping or list of mappings.*line 2"),
        ("base: bc\n? [a]\n: 1\n", "a key must not be a list or a mapping.*line 2"),
        ("base: bc\nseed: " + "9" * 5000, "this is no valid int.*line 2"),
        ("base: bc\nlr: !!timestamp x\n", "this is no valid timestamp.*line 2"),
        ("base: bc\nlr: !!map [1]\n", "expected a mapping node.*line 2"),
        ("base: bc\nlr: !foo 1\n", "tag '!foo'.*line 2"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, content, message):
    with pytest.raises(ConfigError, match=f"(?s){message}") as error:
        settings_in(tmp_path, content)
    assert str(tmp_path / "mine.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1: 2", "unknown key '1' in --config="),
        ("null: 2", "unknown key 'null' in --config="),
        ("on: 2", "unknown key 'True' in --config="),
        ("2024-01-01: 2", "unknown key 'datetime.date"),
        (r'"a\nb": 2', r"unknown key ''a\\nb'' in --config="),
        (
            "env_args.dataset: b",
            "in a YAML, `dataset:` stands in a line of its own below `env_args:`",
        ),
        ("env_args: {null: 2}", "env_args: the key null must be text"),
        ("env_args:", "env_args must be a mapping of settings, not null"),
        ("env_args: [1]", r"env_args must be a mapping of settings, not \[1\]"),
        ("env_args: {payoff: [[.inf]]}", r"env_args.payoff\[0\]\[0\]: inf is not a finite number"),
        ("env_args: {payoff: !!set {a}}", "env_args.payoff: {'a'} is of the type set"),
        ("name: 2024-01-01", "name: 2024-01-01 is read as a date; put text in quotes"),
        ("name: !!binary aGVsbG8=", "name: b'hello' is of the type bytes"),
        (r'name: "\uD83D"', "name: .* is not valid Unicode"),
        ("name: ''", "name: String should have at least 1 character"),
        ("name: true", "name: must not be True or False"),
        (r'name: "a\nb"', "name: must be one line of printable characters"),
        ("lr: true", "lr: must not be True or False"),
        ("lr_decay_steps: yes", "lr_decay_steps: must not be True or False"),
        ("lr: .nan", "lr: nan is not a finite number"),
        ("lr: 1e400", "lr: inf is not a finite number"),
        ("lr: [0.1, 0.2]", "lr: Input should be a valid number"),
        ("name: 0x" + "F" * 5000, "name: a whole number of more than 64 bits"),
        ("t_max: 100000000000000000000", "t_max: a whole number of more than 64 bits"),
        ("hidden_dim: 1000000000000", "hidden_dim: Input should be less than or equal to 16384"),
        ("batch_size: 1e12", "batch_size: Input should be less than or equal to 10000000"),
        ("test_nepisode: 1e12", "test_nepisode: Input should be less than or equal to 1000000"),
        ("agent: [mlp]", r"unknown agent '\['mlp'\]'; known: mlp, rnn"),
        ("learner: {a: b}", "learner=.* must have the form package.module:Class"),
        ("learner: collections:OrderedDict", "OrderedDict does not extend BaseLearner"),
        ("mac: collections:OrderedDict", "OrderedDict does not extend BasicMAC"),
        ("env: bridge", "env in --config=.*: it belongs in the environment's YAML"),
        ("per_env: [xor_offline]", "per_env of --config=.* must map environments to settings"),
        ("per_env: {xor_offline: 3}", "per_env.xor_offline of --config=.* must map settings"),
        ("per_env: {1: {lr: 1}}", "per_env.1 of --config=.*: no environment reads this section"),
        ("per_env: {mne_offline: {env_args: 3}}", "env_args: Input should be a valid dictionary"),
        ("per_env: {mne_offline: {1: 2}}", "unknown key '1' in per_env.mne_offline of"),
    ],
)
def test_an_odd_line_is_one_clear_error(tmp_path, line, message):
    for algorithm in ("bc", "qmix"):  # offline and online
        with pytest.raises(ConfigError, match=message) as error:
            settings_in(tmp_path, f"base: {algorithm}\n{line}\n")
        assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("[bc]", "the key `base` must be the name or the path of a YAML, not"),
        ("{lr: 1}", "the key `base` must be the name or the path of a YAML, not"),
        ("", "the key `base` must be the name or the path of a YAML, not null"),
        ("xor_offline", "base: xor_offline of mine.yaml: there is no such algorithm"),
        ("mine.yaml", "the files are based on each other"),
        ("nothing.yaml", r"no file .*nothing\.yaml\)"),
        ("folder.yaml", "this is a folder"),
        ("configs/mine", "the path of a YAML must end in .yaml"),
        ("x" * 5000, "File name too long"),
    ],
)
def test_an_odd_base_is_one_clear_error(tmp_path, base, message):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=message):
        settings_in(tmp_path, f"base: {base}\nlr: 0.1\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("per_env: [xor_offline]", "must name a section of the algorithms' per_env"),
        ("name: my_game", "name in --env-config=.*: it belongs in the algorithm's YAML"),
        ("learner: inspo_learner", "learner in --env-config=.*: it belongs in the algorithm's"),
        ("env:", "names no env; `base: xor_offline`"),
        ("env: builtins:dict", "builtins:dict"),
        ("env_args: {3: 1}", "unknown key 'env_args.3' in --env-config="),
    ],
)
def test_an_odd_environment_is_one_clear_error(tmp_path, line, message):
    with pytest.raises(ConfigError, match=message):
        settings_in(tmp_path, f"base: xor_offline\n{line}\n", "env_config")


def test_wrong_names_of_both_files_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        settings_of("inspoo", "xor_ofline")
    assert "did you mean 'inspo'?" in str(error.value)
    assert "did you mean 'xor_offline'?" in str(error.value)


def test_other_files_beside_ones_own_do_no_harm(tmp_path):
    """They are searched for environments that read a section."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "laughs.yaml").write_text("k0: &k0 [1]\n" + LAUGHS)
    (tmp_path / "game.yaml").write_text("base: xor_offline\nper_env: my_game\n")
    content = "base: bc\nper_env: {my_game: {lr: 0.5}}\n"
    assert settings_in(tmp_path, content).lr == 0.005


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("0x10", 16),
        ("[1, 2]", [1, 2]),
        ("{'dataset': 'b'}", {"dataset": "b"}),
        ("{dataset: b, seed: null}", {"dataset": "b", "seed": None}),
        ("[a, true]", ["a", True]),
        ("null", None),
        ("None", None),
        ("true", True),
        ("true love", "true love"),
        ("2s3z", "2s3z"),
        ("", ""),
        ("1/3", "1/3"),
        ("{a", "{a"),
        ("{[]: 1}", "{[]: 1}"),
        ("[" * 3000 + "]" * 3000, "[" * 3000 + "]" * 3000),
        ("1+" * 5000 + "1", "1+" * 5000 + "1"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_values_of_words(text, value):
    assert parse_value(text) == value


def test_words_are_merged():
    words = ["env_args.dataset=a", "env_args={'n_agents': 2}", "env_args.dataset=b", " lr = 1 "]
    assert parse_words(words) == {"env_args": {"dataset": "b", "n_agents": 2}, "lr": 1}
    assert parse_words(["seed=1", "seed.x=2"]) == {"seed": {"x": 2}}


def test_a_word_executes_nothing(tmp_path):
    trace = tmp_path / "trace"
    call = [{"py/function": "os.mkdir"}, {"py/tuple": [str(trace)]}]
    (value,) = parse_words([f"x={{'py/reduce': {call}}}"]).values()
    assert value == {"py/reduce": call}
    assert not trace.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed", "lr"], "'seed' after `with` is not of the form.*'lr' after `with` is not of"),
        (["=1"], "'=1' after `with` lacks the name of a setting"),
        (["env_args..dataset=b"], "lacks the name of a setting"),
        (["a.b.c=1"], "unknown key 'a' in the given settings"),
        (["seed.x=1"], "seed: Input should be a valid integer"),
        (["seed==1"], "seed: Input should be a valid integer"),
        (["seed=1j"], "seed: 1j is of the type complex"),
        (["seed={1}"], r"seed: \{1\} is of the type set"),
        (["env_args=3"], "env_args must be a mapping of settings, not 3"),
        (["env_args={'dataset': 'b', 'x': 1}"], "unknown key 'env_args.x' in the given settings"),
        (["base=inspo"], "unknown key 'base' in the given settings"),
        (["t_m\u0430x=5"], "unknown key .* did you mean 't_max'"),
        (["name=\udcff"], "name: .* is not valid Unicode"),
        (["lr=" + "-" * 10000 + "1"], "lr: Input should be a valid number"),
        (["seed=0x" + "F" * 6000], "seed: a whole number of more than 64 bits"),
    ],
)
def test_odd_words_are_one_clear_error(words, message):
    with pytest.raises(ConfigError, match=message) as error:
        settings_of("bc", "xor_offline", words)
    assert len(str(error.value)) < 1000


def test_options_of_offpymarl_are_answered_all_at_once():
    words = ["--config=bc", "--map_name=2s3z", "--seed=1", "--offline"]
    with pytest.raises(ConfigError) as error:
        make_parser().parse_with_settings(words)
    first, second, third = str(error.value).splitlines()
    assert first.endswith("settings go after `with`, as in `with map_name=2s3z`")
    assert second.endswith("settings go after `with`, as in `with seed=1`")
    assert third.startswith("unknown argument '--offline'; known: --config, --env-config")
