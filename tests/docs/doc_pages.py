"""The documentation's pages as tests read them: code blocks, commands, links and anchors."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from conftest import PROJECT

PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    PROJECT / "docker" / "README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
]
LANGUAGES = {"sh", "python", "yaml", "diff", "text", "bibtex"}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A line that holds a file's name alone says where the next block belongs.
FILE_OR_FENCE = re.compile(r"^`(\S+)`:$|^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block; `file` is the name that stands above it, if any."""

    language: str
    content: str
    file: str = ""


def name_of(page: Path) -> str:
    """The page's path in the project."""
    return page.relative_to(PROJECT).as_posix()


def read(page: Path) -> str:
    """The page's text; of a notebook, that of its Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def blocks(page: Path) -> list[Block]:
    """All code blocks in order."""
    found, file = [], ""
    for name, language, content in FILE_OR_FENCE.findall(read(page)):
        if name:
            file = name
        else:
            found.append(Block(language, content, file))
    return found


def commands(block: Block) -> list[str]:
    """The commands of an sh block, without comments; those joined by && one by one."""
    lines = block.content.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        for part in shlex.join(words).split(" '&&' "):
            if part:
                found.append(part)
    return found


def prose(page: Path) -> str:
    """The page without code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", read(page)))


def links(page: Path) -> list[str]:
    """The targets of all links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        again = found.get(slug, 0)
        found[slug] = again + 1
        names.add(f"{slug}-{again}" if again else slug)
    return names
