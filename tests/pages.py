"""Pages of the documentation as programs: the files that they show, and the commands that they give, in order.

A fence with a language and `title="PATH"` is a file. A fence of `bash` holds commands, one a line (`\\` continues).
What a test does differently stands in a comment before the fence, for all its commands or those that begin with PREFIX:

    <!-- test: skip, REASON -->                     not run; the reason is printed
    <!-- test: PREFIX => add KEY=VALUE ... -->      run with further arguments
    <!-- test: PREFIX => as COMMAND -->             another command in its place
    <!-- test: PREFIX => compose -->                the configuration is composed and built, not trained
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.problems import REPOSITORY

PAGES = [
    *(name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "outputs/README.md")),
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md")),
]
VERBS = ("run", "skip", "add", "as", "compose")
TOKENS = re.compile(
    r"<!-- test: (?P<note>.*?) -->|^```(?P<info>\w[^\n]*)?\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE
)
RECORD = "docs/results/"
"""Pages that say how long runs were made: their trainings are composed, and what needs their results is not run."""


@dataclass(frozen=True)
class File:
    """A file that a page shows."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command that a page gives.

    Attributes:
        text: In one line, without its comment.
        verb: What a test does: one of VERBS, or "" if nobody has decided.
        rest: What belongs to the verb: a reason, arguments, a command.
    """

    text: str
    verb: str
    rest: str = ""


def read_page(page: str) -> list[File | Command]:
    """Files and commands of a page, from top to bottom."""
    found: list[File | Command] = []
    notes: list[str] = []
    for match in TOKENS.finditer((REPOSITORY / page).read_text(encoding="utf-8")):
        if match["note"] is not None:
            notes.append(match["note"])
            continue
        info = match["info"] or ""
        title = re.search(r'title="([^"]+)"', info)
        if title:
            found.append(File(title[1], match["body"]))
        elif info.split(" ")[0] in ("bash", "sh", "shell", "console"):
            found += [_decide(page, text, notes) for text in command_lines(match["body"])]
        notes = []
    return found


def commands(page: str) -> list[Command]:
    return [item for item in read_page(page) if isinstance(item, Command)]


def files(page: str) -> list[File]:
    return [item for item in read_page(page) if isinstance(item, File)]


def command_lines(block: str) -> Iterator[str]:
    """Commands of a block, without comments."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True, posix=False)
        if words:
            yield " ".join(words)


def _decide(page: str, text: str, notes: list[str]) -> Command:
    for note in notes:
        prefix, arrow, order = note.partition(" => ")
        if not arrow:
            prefix, order = "", note
        if text.startswith(prefix):
            verb, _, rest = order.partition(" ")
            return Command(text, verb.rstrip(","), rest)
    return Command(text, *_default(page, text))


def _default(page: str, text: str) -> tuple[str, str]:
    script = re.match(r"(?:\w+=\S+ )*python (?:scripts/(\w+)\.py|-m pytest)", text)
    for pattern, reason in (
        (r"hydra/launcher=(submitit_)?slurm|^s(batch|run|queue|cancel) ", "needs a SLURM cluster"),
        (r"hydra/launcher=ray", "needs a Ray cluster"),
        (r"\bwandb (login|sync)|upload=true", "needs the network and an account"),
        (r"^pip install", "installs from the network; the Makefile installs the same extras"),
        (r"^make (?!demo)", "its recipe is looked at; it calls these tests, lint or the site"),
    ):
        if re.search(pattern, text):
            return "skip", reason
    if page.startswith(RECORD):
        if re.search(r"python scripts/(train|demo)\.py", text):
            return "compose", ""
        if "page=true" in text:
            return "skip", "needs the runs of its page, which test_pages.py makes again from the file of its runs"
        return ("run", "") if script and script[1] == "table" else ("skip", "needs the data or the runs of its page")
    if script or re.match(r"(export \w+=|source \.venv/bin/activate$|make demo$)", text):
        return "run", ""
    return "", ""
