"""Sentences and names that readers had to puzzle over do not come back."""

import ast
import io
import re
import tokenize
from collections import Counter

import pytest
from conftest import PROJECT
from doc_pages import PAGES, name_of, prose

import inspo
from inspo.utils import errors

RIDDLES = (
    "mates",
    "lanes",
    "behoves",
    "heeded",
    "by turns",
    "error that names the nearest",
    "picked afterwards",
    "flatters",
    "killed or not",
    "values act greedily",
    "by no more than single runs may differ",
    "sees to the scale",
    "take a gpu down",
    "whichever agent came first",
    "the user's to mend",
    "there whole or not at all",
    "what a kill leaves",
    "the whole truth",
)
OLD_NAMES = {
    "together",
    "EVERYBODY",
    "mates",
    "lanes",
    "n_lanes",
    "EnvLanes",
    "Workplace",
    "Way",
    "Known",
    "LeftOut",
    "Verdict",
    "said",
    "refuse",
    "complain",
}
OLD_FILES = {"own.py", "recipes.py"}
THIS_FILE = "test_plain_words.py"
MODULES = [
    path
    for folder in ("src", "tests", "benchmarks")
    for path in sorted((PROJECT / folder).rglob("*.py"))
    if path.name != THIS_FILE
]


def riddles_in(text: str) -> list[str]:
    words = " ".join(text.lower().split())
    return [riddle for riddle in RIDDLES if re.search(rf"\b{riddle}\b", words)]


def words_and_names(source: str) -> tuple[str, set[str]]:
    """Comments and texts of a module, and the names in its code."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    prose_kinds = (tokenize.COMMENT, tokenize.STRING)
    words = (token.string.strip("# ") for token in tokens if token.type in prose_kinds)
    return " ".join(words), {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_have_no_riddles(page):
    if page.name != "CHANGELOG.md":  # it tells what names were replaced
        assert not riddles_in(prose(page))


def test_the_code_has_none_either():
    found = {}
    for module in MODULES:
        words, names = words_and_names(module.read_text(encoding="utf-8"))
        if wrong := [*riddles_in(words), *sorted(names & OLD_NAMES)]:
            found[name_of(module)] = wrong
    assert not found


def test_no_file_has_an_old_name():
    assert not {module.name for module in MODULES} & OLD_FILES
    assert not (PROJECT / "docs" / "baselines" / "cfcql.md").exists()


def test_no_class_has_the_name_of_one_that_users_see():
    """Those of the Python interface, and the errors."""
    classes = Counter(
        node.name
        for module in MODULES
        if module.is_relative_to(PROJECT / "src")
        for node in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    seen = {*inspo.__all__, *(name for name in vars(errors) if name.endswith("Error"))}
    assert {"Run", "GameError"} <= seen
    assert [name for name in seen if classes[name] > 1] == []
