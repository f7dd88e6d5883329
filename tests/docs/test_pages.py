"""README and docs: code blocks run, links lead somewhere, facts are those of the code."""

import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch as th
import yaml
from conftest import PROJECT, needs_smax
from doc_pages import (
    FENCE,
    LANGUAGES,
    PAGES,
    anchors,
    blocks,
    commands,
    links,
    name_of,
    read,
)
from matplotlib.figure import Figure
from run_commands import NOT_RUN, Page, reason_not_to_run, small_settings

import inspo
from inspo.envs.sc2.smax import SMAX

DOCS = PROJECT / "docs"
MOST_WORDS = 1300  # of the README, code included
# Its own test puts the blocks where the page says.
TESTED_ELSEWHERE = {DOCS / "adding-an-algorithm.md"}
RUNNABLE = [
    page
    for page in PAGES
    if page not in TESTED_ELSEWHERE
    and {block.language for block in blocks(page)} & {"python", "sh"}
]
NOTEBOOK = DOCS / "quickstart.ipynb"
every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- links


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=name_of)
def test_links_lead_somewhere(page):
    for target in links(page):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https", f"{target}: not https"
            assert "." in parts.netloc, f"{target}: no host"
            continue
        file = (page.parent / parts.path).resolve() if parts.path else page
        assert file.exists(), f"there is no {target}"
        assert file.is_relative_to(PROJECT), f"{target} leaves the project"
        if parts.fragment:
            assert parts.fragment in anchors(file), f"{target}: no such heading"


def test_the_notebooks_links_are_read():
    assert "datasets.md" in links(NOTEBOOK)


def test_every_page_can_be_found():
    """From the README, by links."""
    found, to_read = set(), [PROJECT / "README.md"]
    while to_read:
        page = to_read.pop()
        if page in found:
            continue
        found.add(page)
        targets = {target.partition("#")[0] for target in links(page)}
        inside = [target for target in targets if target.endswith(".md") and ":" not in target]
        to_read += [(page.parent / target).resolve() for target in inside]
    assert set(PAGES) <= found


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `name`: x/y_z, (1)\n## Twice\n## Twice\n```sh\n# no heading\n```\n")
    assert anchors(page) == {"a-name-xy_z-1", "twice", "twice-1"}


# --- code blocks


@every_page
def test_blocks_are_marked_by_language(page):
    languages = {language for language, _ in FENCE.findall(read(page))}
    assert languages <= LANGUAGES
    assert read(page).count("```") == 2 * len(FENCE.findall(read(page)))


@pytest.fixture
def small_runs(monkeypatch, tmp_path):
    """The page's folder, with small datasets of battles; `inspo.train` makes short runs there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inspo.data.formats.h5_files.check_in_child", lambda path: None)
    # Pictures take longer than these runs, and have tests of their own.
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **__: Path(path).touch())
    place = Page(tmp_path)
    (tmp_path / "src").symlink_to(PROJECT / "src")
    battles = {
        "2s3z": ("hesitant", "medium"),
        "3s_vs_5z": ("hesitant",),
        "smacv2_5_units": ("scripted",),
    }
    for map_name, qualities in battles.items():
        for quality in qualities:
            write_battles(tmp_path / "dataset" / "sc2" / "smax" / map_name / f"{quality}.h5")
    full_size = inspo.train

    def train(config, env_config, **settings):
        small = small_settings(config, env_config)
        return full_size(config, env_config, **{**settings, **small, **place.places})

    monkeypatch.setattr(inspo, "train", train)
    n_threads = th.get_num_threads()
    yield place
    th.set_num_threads(n_threads)


def write_battles(path: Path) -> None:
    """A dataset of random numbers in the shapes of a map of SMAX, named after its folder."""
    env = SMAX(path.parent.name)
    info = env.get_env_info()
    n_agents, n_actions = info["n_agents"], info["n_actions"]
    rng = np.random.default_rng(0)
    rows = 4
    end = np.arange(rows) == rows - 2
    episode = {
        "state": rng.normal(size=(rows, info["state_shape"])),
        "obs": rng.normal(size=(rows, n_agents, info["obs_shape"])),
        "actions": rng.integers(n_actions, size=(rows, n_agents)),
        "avail_actions": np.ones((rows, n_agents, n_actions), dtype=bool),
        "reward": rng.normal(size=rows) * (np.arange(rows) < rows - 1),
        "terminated": end,
        "truncated": np.zeros(rows, dtype=bool),
    }
    env_args = {
        "simulator": "smax",
        "map_name": path.parent.name,
        "reward_scale": env.reward_scale,
    }
    metadata = {"environment": "sc2", "env_args": env_args, **env.provenance()}
    path.parent.mkdir(parents=True, exist_ok=True)
    inspo.write_dataset(inspo.from_episodes([episode] * 8, metadata), path)


class TwoAgents:
    """A PettingZoo parallel environment, for the block that calls `make_env`."""

    possible_agents = ("a", "b")

    def reset(self, seed):
        self.agents, self.steps = list(self.possible_agents), 0
        return self._seen(), {}

    def step(self, actions):
        self.steps += 1
        agents = list(self.agents)
        flags = dict.fromkeys(agents, self.steps == 3)
        if self.steps == 3:
            self.agents = []
        return self._seen(), dict.fromkeys(agents, 1.0), flags, dict.fromkeys(agents, False), {}

    def action_space(self, agent):
        return type("Discrete", (), {"n": 2})

    def _seen(self):
        return {agent: np.full(2, self.steps) for agent in self.possible_agents}


@pytest.fixture(scope="module")
def earlier_runs(tmp_path_factory) -> Path:
    """Two finished runs, for pages that compare runs made elsewhere."""
    folder = tmp_path_factory.mktemp("earlier")
    places = {"local_results_path": folder / "results", "dataset_root": folder / "dataset"}
    for config in ("bc", "omiga"):
        inspo.train(config, "xor_offline", **small_settings(config, "xor_offline"), **places)
    return folder / "results"


@needs_smax
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_the_code_of_a_page_runs(page, small_runs, earlier_runs):
    """In order and in one folder, so that later blocks find the files of earlier ones."""
    if page.name == "evaluation.md":
        shutil.copytree(earlier_runs, small_runs.folder / "results")
    names = {"make_env": TwoAgents} if page.name == "dataset-format.md" else {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.content, name_of(page), "exec"), names)
        if block.language == "yaml":
            Path(block.file).write_text(block.content, encoding="utf-8")
        if block.language == "sh":
            for command in commands(block):
                if not reason_not_to_run(command):
                    small_runs.run(command)


def test_nothing_is_listed_in_vain():
    """Every entry of NOT_RUN is a command of some page."""
    shell = [block for page in PAGES for block in blocks(page) if block.language == "sh"]
    found = [command for block in shell for command in commands(block)]
    vain = [start for start in NOT_RUN if not any(command.startswith(start) for command in found)]
    assert not vain


# --- facts


def test_the_readme_is_short():
    assert len(read(PROJECT / "README.md").split()) < MOST_WORDS


def test_the_version_is_the_same_everywhere():
    (version,) = re.findall(r'version="(.*)"', read(PROJECT / "setup.py"))
    citation = yaml.safe_load(read(PROJECT / "CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == version
    assert f"version = {{{version}}}" in read(PROJECT / "README.md")
    newest = re.search(r"^## (\S+) \((.*)\)$", read(PROJECT / "CHANGELOG.md"), re.MULTILINE)
    assert newest.groups() == (version, str(citation["date-released"]))


def test_every_algorithm_and_environment_is_in_the_readme():
    text = read(PROJECT / "README.md")
    for learner in (PROJECT / "src" / "learners").glob("*_learner.py"):
        shared = learner.stem.startswith(("base_", "actor_critic_", "value_decomposition_"))
        assert shared or learner.name in text
    battles = read(PROJECT / "docs" / "battles.md")
    for environment in (PROJECT / "src" / "config" / "envs").glob("*.yaml"):
        name = environment.stem
        if name.startswith("sc2_gen_"):  # a table there has one row for each kind
            assert f"`{name.removesuffix('_offline')}`" in battles
        else:
            assert f"`{name}`" in text


def test_the_settings_of_each_environment_are_explained():
    """docs/inspo.md has every value of `per_env`."""
    text = read(DOCS / "inspo.md")
    settings = yaml.safe_load(read(PROJECT / "src" / "config" / "algs" / "inspo.yaml"))
    for environment, values in settings["per_env"].items():
        section = text[text.index(f"| `{environment}` |") :]
        for key, value in values.items():
            assert f"`{key}: {value}`" in section, f"{environment}: {key}"
    for key in ("alpha", "beta", "cql_weight", "init_from_behaviour"):
        assert f"`{key}: {settings[key]}`" in text


def test_the_functions_of_the_equations_exist():
    """Names of functions and classes in the tables that map equations to code."""
    source = "\n".join(read(path) for path in (PROJECT / "src").rglob("*.py"))
    defined = set(re.findall(r"^ *(?:def|class) (\w+)", source, re.MULTILINE))
    for page in (DOCS / "inspo.md", DOCS / "exact-inspo.md"):
        rows = re.findall(r"^\|.*\|$", read(page), re.MULTILINE)
        equations = [row for row in rows if re.search(r"\((?:9|12|11)|Eq\.", row)]
        assert equations
        for row in equations:
            for name in re.findall(r"`((?:\w+\.)?[a-z_]+)`", row.split("|")[-2]):
                assert set(name.split(".")) <= defined, name


def test_named_tests_exist():
    source = "\n".join(read(path) for path in (PROJECT / "tests").rglob("*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", read(page)):
            settings = yaml.safe_load(read(PROJECT / "src" / "config" / "default.yaml"))
            metrics = name.startswith(("test_return_", "test_ep_length_", "test_battle_won_"))
            assert name in settings or metrics or f"def {name}(" in source, name


OPTIONS_OF_OTHERS = {
    "--build-arg",
    "--check",
    "--block",
    "--cpus-per-task",
    "--entrypoint",
    "--gpus",
    "--gpus-per-node",
    "--head",
    "--help",
    "--no-deps",
    "--nodes",
    "--ntasks",
    "--ntasks-per-node",
    "--num-cpus",
    "--port",
    "--rm",
    "--secret",
    "--signal",
}


def test_options_exist():
    """Every `--option` that a page names is defined in the source, or is another tool's."""
    scripts = [*(PROJECT / "src").rglob("*.py"), *(PROJECT / "benchmarks").glob("*.py")]
    source = "\n".join(read(path) for path in scripts)
    defined = set(re.findall(r'"(--[a-z-]+)"', source))
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", read(page)))
            assert named <= defined | OPTIONS_OF_OTHERS, name_of(page)


def test_the_architecture_has_every_folder_and_layer():
    tomllib = pytest.importorskip("tomllib")
    text = read(DOCS / "architecture.md")
    rooms = {path.parent.name for path in (PROJECT / "src").glob("*/__init__.py")}
    assert {room for room in rooms if f"| [src/{room}](" not in text} == set()
    contracts = tomllib.loads(read(PROJECT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    drawing = FENCE.search(text).group(2)
    named = [layer.split(".")[-1] for row in layers for layer in row.split(" | ")]
    places = [re.search(rf"\b{name}\b", drawing) for name in named]
    assert all(places), [name for name, place in zip(named, places, strict=True) if not place]
