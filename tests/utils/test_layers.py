"""Which YAML wins: shipped files, copies of them, files with a base, sections for environments."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from inspo.run.settings import settings_of
from inspo.utils import layers
from inspo.utils.errors import ConfigError
from inspo.utils.layers import CONFIG_DIR, read_shipped, shipped_names, split
from inspo.utils.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS, ENVIRONMENTS = shipped_names("algs"), shipped_names("envs")
SECTION_OF = {name: read_shipped("envs", name)["per_env"] for name in ENVIRONMENTS}
ONE_OF_EACH_SECTION = [*{section: name for name, section in SECTION_OF.items()}.values()]


def resolved(config, env_config, *words) -> dict:
    settings = settings_of(str(config), str(env_config), words).model_dump()
    return {key: value for key, value in settings.items() if key != "env_config"}


def write(path: Path, content: dict) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def copied(kind: str, name: str, folder: Path, **edits) -> Path:
    """A copy of a shipped YAML under another name, with these edits."""
    content = read_yaml(CONFIG_DIR / kind / f"{name}.yaml") | edits
    return write(folder / "my_own.yaml", content)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_renamed_environment_keeps_the_algorithms_settings(tmp_path, environment):
    copy = tmp_path / "renamed.yaml"
    shutil.copy(CONFIG_DIR / "envs" / f"{environment}.yaml", copy)
    for algorithm in ALGORITHMS:
        assert resolved(algorithm, copy) == resolved(algorithm, environment)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_renamed_algorithm_is_the_same(tmp_path, algorithm):
    copy = tmp_path / "renamed.yaml"
    shutil.copy(CONFIG_DIR / "algs" / f"{algorithm}.yaml", copy)
    for environment in ENVIRONMENTS:
        assert resolved(copy, environment) == resolved(algorithm, environment)


def another(value):
    """A valid value of the same setting that no section has; None where only one is valid."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 3 or 3
    if isinstance(value, float):
        return value * 0.75 or 0.25
    return None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_edit_of_a_copied_algorithm_is_in_force_in_every_section(tmp_path, algorithm):
    shipped = read_yaml(CONFIG_DIR / "algs" / f"{algorithm}.yaml")
    expected = {name: resolved(algorithm, name) for name in ONE_OF_EACH_SECTION}
    for key, value in {"seed": 0, "gamma": 0.99, **shipped}.items():
        new = another(value)
        if new is None or key in ("test_greedy", "init_from_behaviour", "standardise_rewards"):
            continue
        copy = copied("algs", algorithm, tmp_path, **{key: new})
        for environment in ONE_OF_EACH_SECTION:
            try:
                found = resolved(copy, environment)
            except ConfigError:  # the edit does not fit the environment's other settings
                assert key in ("t_max", "td_lambda", "beta", "updates_per_agent", "n_parallel")
                continue
            assert found[key] == new
            assert differing(found, expected[environment]) == {key}
            assert resolved(copy, environment, f"{key}={value}")[key] == value


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A copy of the project's folder of YAMLs."""
    folder = tmp_path / "config"
    shutil.copytree(CONFIG_DIR, folder)
    monkeypatch.setattr(layers, "CONFIG_DIR", folder)
    layers.read_shipped.cache_clear()
    yield folder
    layers.read_shipped.cache_clear()


def test_what_is_added_to_the_projects_folder_is_ones_own(project):
    """As PyMARL's users do."""
    copied("algs", "inspo", project / "algs", alpha=0.5)
    assert resolved("my_own", "xor_offline")["alpha"] == 0.5
    copied("envs", "mne_offline", project / "envs", lr=0.02)
    assert resolved("cfcql", "my_own")["lr"] == 0.02
    write(project / "algs" / "deeper.yaml", {"base": "my_own", "lr": 0.03})
    found = resolved("deeper", "xor_offline")
    assert (found["alpha"], found["lr"]) == (0.5, 0.03)


def test_a_section_added_to_a_shipped_algorithm_is_ones_own(project):
    copied("envs", "mne_offline", project / "envs", lr=0.02, per_env="mine")
    sections = read_yaml(project / "algs" / "bc.yaml")["per_env"] | {"mine": {"lr": 0.07}}
    bc = read_yaml(project / "algs" / "bc.yaml") | {"per_env": sections}
    write(project / "algs" / "bc.yaml", bc)
    assert resolved("bc", "my_own")["lr"] == 0.07
    assert resolved("bc", "sc2_offline")["lr"] == 0.001


def test_a_broken_file_in_the_projects_folder_harms_no_other_run(project, tmp_path):
    for kind in ("algs", "envs"):
        (project / kind / "broken.yaml").write_bytes(b"lr:\t# \xe9")
    copy = copied("algs", "inspo", tmp_path, alpha=0.5)
    assert resolved(copy, "xor_offline")["alpha"] == 0.5
    with pytest.raises(ConfigError, match=r"cannot read .*broken\.yaml"):
        resolved("broken", "xor_offline")


@pytest.mark.parametrize("kind", ["algs", "envs"])
def test_every_yaml_is_known_to_be_shipped(kind):
    assert layers.shipped_names(kind) == layers.known_names(kind)


def differing(found: dict, expected: dict) -> set[str]:
    """The keys with other values, without those that follow from another key."""
    derived = {"lr_decay_steps", "beta_decay_steps", "alpha_decay_steps"}  # `t_max` in the YAMLs
    return {key for key in expected if found[key] != expected[key]} - derived


def test_an_edit_within_a_copied_section_is_in_force_there_alone(tmp_path):
    sections = read_yaml(CONFIG_DIR / "algs" / "inspo.yaml")["per_env"]
    sections["xor_offline"]["alpha"] = 0.7
    copy = copied("algs", "inspo", tmp_path, per_env=sections)
    assert resolved(copy, "xor_offline")["alpha"] == 0.7
    assert resolved(copy, "bridge_offline")["alpha"] == 0.03
    both = copied("algs", "inspo", tmp_path, per_env=sections, alpha=0.2)
    assert resolved(both, "xor_offline")["alpha"] == 0.7
    assert resolved(both, "bridge_offline")["alpha"] == 0.2


def test_a_section_that_was_deleted_from_a_copy_does_not_come_back(tmp_path):
    sections = read_yaml(CONFIG_DIR / "algs" / "inspo.yaml")["per_env"]
    del sections["xor_offline"]
    copy = copied("algs", "inspo", tmp_path, per_env=sections)
    assert resolved(copy, "xor_offline")["alpha"] == 0.1


def test_an_edit_of_a_copied_environment_wins_over_what_algorithms_ship(tmp_path):
    assert resolved("cfcql", "mne_offline")["lr"] == 0.005  # from cfcql's section
    copy = copied("envs", "mne_offline", tmp_path, lr=0.02)
    assert resolved("cfcql", copy)["lr"] == 0.02
    assert resolved("cfcql", copy, "lr=0.03")["lr"] == 0.03


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_yaml_with_a_base_holds_only_what_differs(tmp_path, algorithm):
    mine = write(tmp_path / "mine.yaml", {"base": algorithm, "name": "mine", "lr": 0.0123})
    for environment in ENVIRONMENTS:
        expected = resolved(algorithm, environment) | {"name": "mine", "lr": 0.0123}
        assert resolved(mine, environment) == expected


def test_bases_of_environments_and_of_ones_own_files(tmp_path):
    write(tmp_path / "first.yaml", {"base": "inspo", "alpha": 0.4, "cql_weight": 0.2})
    second = write(tmp_path / "second.yaml", {"base": "first.yaml", "cql_weight": 0.3})
    found = resolved(second, "xor_offline")
    assert (found["alpha"], found["cql_weight"], found["critic_lr"]) == (0.4, 0.3, 0.01)
    game = write(
        tmp_path / "game.yaml", {"base": "mne_offline", "env_args": {"dataset": "balanced"}}
    )
    expected = resolved("inspo", "mne_offline")
    expected["env_args"] = {**expected["env_args"], "dataset": "balanced"}
    assert resolved("inspo", game) == expected


def test_a_wrong_key_that_the_base_sets_is_said_to_be_the_bases(tmp_path):
    problems = problems_of({"base": "inspo", "learner": "bc_learner", "lrr": 1}, tmp_path)
    label = f"in --config={tmp_path / 'mine.yaml'}"
    assert any(line.startswith(f"  unknown key 'order' {label}, by its base;") for line in problems)
    assert any(line.startswith(f"  unknown key 'lrr' {label}; did you mean") for line in problems)


def test_files_based_on_each_other_are_refused(tmp_path):
    one = write(tmp_path / "one.yaml", {"base": "two.yaml"})
    write(tmp_path / "two.yaml", {"base": "one.yaml"})
    with pytest.raises(ConfigError, match=r"based on each other: .*one\.yaml <- .*two\.yaml"):
        resolved(one, "xor_offline")


def problems_of(content: dict, tmp_path: Path) -> list[str]:
    mine = write(tmp_path / "mine.yaml", content)
    with pytest.raises(ConfigError) as error:
        resolved(mine, "xor_offline")
    return str(error.value).splitlines()


def test_sections_are_checked_in_every_environment_and_all_problems_told_at_once(tmp_path):
    sections = {
        "sc2_offline": {"no_such_key": 1, "lr": -3},
        "xor_ofline": {"lr": 0.1},
        "bridge": {"gamma": 2},
    }
    content = {"base": "bc", "per_env": sections, "hiden_dim": 3, "seed": -1}
    text = "\n".join(problems_of(content, tmp_path))
    label = f"--config={tmp_path / 'mine.yaml'}"
    assert f"unknown key 'hiden_dim' in {label}; did you mean 'hidden_dim'?" in text
    assert f"unknown key 'no_such_key' in per_env.sc2_offline of {label}" in text
    assert f"per_env.sc2_offline of {label}: lr: Input should be greater than 0" in text
    assert f"per_env.xor_ofline of {label}: no environment reads this section" in text
    assert "did you mean 'xor_offline'?" in text
    assert f"per_env.bridge of {label}: gamma: Input should be less than or equal to 1" in text
    assert "seed: Input should be greater than or equal to 0" in text


def test_an_environment_whose_section_no_algorithm_has_is_refused(tmp_path):
    game = copied("envs", "xor_offline", tmp_path, per_env="xor_ofline")
    with pytest.raises(ConfigError, match="no algorithm has such a section; did you mean 'xor_of"):
        resolved("inspo", game)


def test_sections_for_environments_of_ones_own(tmp_path):
    game = copied("envs", "xor_offline", tmp_path, per_env="my_game")
    mine = write(tmp_path / "mine.yaml", {"base": "inspo", "per_env": {"my_game": {"alpha": 0.6}}})
    assert resolved(mine, game)["alpha"] == 0.6
    assert resolved(mine, "xor_offline")["alpha"] == 0.15  # my_game is read by the file beside it


def test_the_name_of_the_environment_cannot_be_set():
    with pytest.raises(ConfigError, match=r"env_config in the given settings: .* cannot be set"):
        settings_of("inspo", "xor_offline", ["env_config=mne_offline"])


def test_what_a_minimal_yaml_lacks_is_one_line(tmp_path):
    (problem,) = problems_of({"name": "x", "learner": "inspo_learner"}, tmp_path)
    assert problem.startswith("missing: critic_inputs")
    assert "`base: NAME`" in problem


def test_all_that_safe_load_reads_is_read(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: bc\n_defaults: &d {lr: 0.2, seed: null}\n")
    with pytest.raises(ConfigError, match="unknown key '_defaults'"):
        resolved(mine, "xor_offline")
    mine.write_text(
        "base: bc\nper_env:\n  xor_offline: &x {lr: 0.2}\n  mne_offline: {<<: *x, gamma: 0.5}\n"
    )
    found = resolved(mine, "mne_offline")
    assert (found["lr"], found["gamma"]) == (0.2, 0.5)
    mine.write_text("base: bc\nmax_episodes: null\nlr_decay_steps: ~\n")
    assert resolved(mine, "bridge_offline")["lr_decay_steps"] is None


def test_null_removes_sections_that_are_shipped(tmp_path):
    assert resolved("inspo", "xor_offline")["alpha"] == 0.15
    for sections in (None, {"xor_offline": None}):
        mine = write(tmp_path / "mine.yaml", {"base": "inspo", "per_env": sections})
        assert resolved(mine, "xor_offline")["alpha"] == 0.1
    assert resolved(mine, "bridge_offline")["alpha"] == 0.03
    game = write(tmp_path / "game.yaml", {"base": "xor_offline", "per_env": None})
    assert resolved("inspo", game)["alpha"] == 0.1


def test_null_on_the_command_line_is_no_value():
    found = resolved("bc", "bridge_offline", "lr_decay_steps=null", "local_results_path=null")
    assert (found["lr_decay_steps"], found["local_results_path"]) == (None, None)


@pytest.mark.parametrize("seeds", ["seed=0,1,2", "seed=[0,1]"])
def test_several_seeds_are_several_runs(seeds):
    with pytest.raises(ConfigError, match="a run has one seed; run the command once for each"):
        settings_of("bc", "xor_offline", [seeds])


def test_a_run_says_which_section_applies_and_what_it_sets():
    remarks = settings_of("cfcql", "mne_offline", ["lr=0.1"]).remarks
    assert remarks == [
        "per_env.mne_offline of --config=cfcql sets cql_weight=5.0, "
        "lr=0.005 (overridden: 0.1), behaviour_steps=300"
    ]
    assert settings_of("bc", "xor_offline").remarks == [
        "--config=bc has no per_env section 'xor_offline'"
    ]


def test_a_run_says_what_files_of_ones_own_set(tmp_path):
    mine = write(tmp_path / "mine.yaml", {"base": "inspo", "alpha": 0.3})
    remarks = settings_of(str(mine), "xor_offline").remarks
    assert remarks[0].startswith("per_env.xor_offline of ")
    assert "alpha=0.15 (overridden: 0.3)" in remarks[0]
    assert remarks[1] == f"--config={mine} sets alpha=0.3"


def test_a_dataset_that_an_online_learner_does_not_read_is_told():
    told = "env_args.dataset=medium is not read: mappo learns online"
    words = ["env_args.dataset=medium", "env_args.simulator=smax"]
    assert settings_of("mappo", "sc2_offline", words).remarks[1:] == [told]
    assert len(settings_of("mappo", "sc2_offline", words[1:]).remarks) == 1  # the YAML's own
    assert len(settings_of("bc", "sc2_offline", words).remarks) == 1


def test_every_shipped_section_is_read_by_an_environment():
    for algorithm in ALGORITHMS:
        sections = read_yaml(CONFIG_DIR / "algs" / f"{algorithm}.yaml").get("per_env", {})
        assert {*sections} <= {*SECTION_OF.values()}


def test_split():
    shipped = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1, 2]}
    values = {"a": 1, "b": {"c": 2, "d": 4, "x": 5}, "e": [1], "f": {}}
    assert split(values, shipped) == (
        {"a": 1, "b": {"c": 2}},
        {"b": {"d": 4, "x": 5}, "e": [1], "f": {}},
    )


@pytest.mark.parametrize("kind", ["algs", "envs"])
def test_the_list_of_shipped_yamls_is_that_of_the_repository(kind):
    """A YAML that is not in the list counts as its user's own, and wins over sections."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", f"src/config/{kind}"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shipped_names(kind) == sorted(Path(file).stem for file in tracked.split())
