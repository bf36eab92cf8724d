"""What the pages say is true: their commands run, their files exist, their links lead somewhere."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from hydra.errors import HydraException

from mtl.errors import UserError
from tests.pages import PAGES, VERBS, Command, commands, files, read_page
from tests.problems import REPOSITORY, adam, build_strategy, make_batches, make_objective, train
from tests.sessions import DEMO, Session, build, shortened

WITH_COMMANDS = [page for page in PAGES if commands(page)]
EXAMPLES = {"docs/add-a-strategy.md": 2, "docs/add-a-dataset.md": 2, "docs/add-a-backbone.md": 2}
MAKEFILE = (REPOSITORY / "Makefile").read_text()
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d(?:;\d+)*m")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_has_a_decision(page):
    for command in commands(page):
        assert command.verb in VERBS, f"{page}: say before the fence what a test does with `{command.text}`"
        assert command.verb == "run" or command.rest or command.verb == "compose", command


def test_decisions_are_about_commands_that_are_there():
    for page in PAGES:
        for note in re.findall(r"<!-- test: (.*?) -->", (REPOSITORY / page).read_text()):
            prefix, arrow, _ = note.partition(" => ")
            assert not arrow or any(command.text.startswith(prefix) for command in commands(page)), (page, note)


def test_what_is_not_run_is_named_and_has_a_reason(capsys):
    skipped = {
        (page, command.text): command.rest for page in PAGES for command in commands(page) if command.verb == "skip"
    }
    with capsys.disabled():
        for (page, text), reason in skipped.items():
            print(f"\n{page}: `{text}` is not run: {reason}", end="")
    assert all(len(reason) > 10 for reason in skipped.values())
    assert not {page for page, _ in skipped} & set(EXAMPLES)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What `make demo` leaves, cut: runs for pages that look at some."""
    session = Session(tmp_path_factory.mktemp("demo"))
    session.shell(shortened(DEMO))
    return session.directory / "outputs"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_run_in_their_order(page, outputs, tmp_path):
    Session(tmp_path, outputs).play(page)


def test_make_demo_is_the_script_that_the_sessions_begin_with():
    assert re.search(rf"^demo:.*\n\t@\$\(BIN\)/{DEMO.partition(' strategies')[0]}$", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize(
    "target", sorted({c.text.split()[1] for p in PAGES for c in commands(p) if c.text[:5] == "make "})
)
def test_make_targets_are_there_and_call_what_is(target):
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    for script in re.findall(r"scripts/\w+\.py", recipe[1]):
        assert (REPOSITORY / script).is_file()


@pytest.mark.parametrize("page", EXAMPLES)
def test_an_example_is_short_and_lies_outside(page):
    shown = files(page)
    assert len(shown) == EXAMPLES[page]
    assert all(file.path.startswith("my_project/") for file in shown)
    assert sum(len(file.text.splitlines()) for file in shown) < 40
    assert not any(re.search(r"\bmtl/", file.text) for file in shown)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = REPOSITORY / page
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            found = path if not name else path.parent / name
            assert found.exists(), target
            assert not anchor or anchor in anchors(found.read_text(encoding="utf-8")), target


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_scripts_named_in_prose_are_there():
    for page in PAGES:
        for script in re.findall(r"\bscripts/[\w/]+\.py", (REPOSITORY / page).read_text(encoding="utf-8")):
            assert (REPOSITORY / script).is_file(), (page, script)


def test_the_parser_finds_what_it_should():
    commands_of = [item.text for item in read_page("README.md") if isinstance(item, Command)]
    assert "python scripts/train.py 'dataset.tasks=[left]'" in commands_of
    assert len(commands_of) >= 15
    assert shortened("python scripts/train.py > log", "a=1").endswith("dataset.test_size=16 a=1 > log")
    assert shortened("python scripts/table.py table=list") == "python scripts/table.py table=list"


def test_a_composed_command_has_to_be_a_real_one():
    build("python scripts/train.py -m sweep=community/multidigits strategy=uniform,mao seed=0,1 dataset.tasks=[left]")
    build("python scripts/train.py -m sweep=community/multidigits/single_task 'dataset.tasks=[left],[right]' seed=0")
    for wrong in ("sweep=community/nothing", "strategy=unform,mao", "trainer.max_epohcs=2"):
        with pytest.raises((UserError, HydraException)):
            build(f"MTL_DATA=x python scripts/train.py -m {wrong}")


COSTS = re.compile(
    r"\(`(?P<name>\w+)`[^)]*\): (?P<forwards>\w) forwards?, (?P<backwards>\w) head backwards?, "
    r"(?P<backbone_backwards>\w) backbone backwards?,\s(?P<optimizer_steps>\w) optimizer steps?"
)


def test_costs_on_the_page_about_a_step_are_real():
    text = (REPOSITORY / "docs/anatomy-of-a-step.md").read_text()
    found = {match["name"]: match.groupdict() for match in COSTS.finditer(text)}
    assert set(found) == {"uniform", "mgda", "mgda_ub", "igd", "mao"}
    for name, cost in found.items():
        objective = make_objective(("a", "b", "c"))
        (report,) = train(build_strategy(name), objective, make_batches(count=1), adam)
        for key in ("forwards", "backwards", "backbone_backwards", "optimizer_steps"):
            assert getattr(report.cost, key) == {"1": 1, "m": 3, "M": 3}[cost[key]], (name, key)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The output of a training and of its table, in files."""
    session = Session(tmp_path_factory.mktemp("log"))
    del session.environment["NO_COLOR"]
    session.shell(shortened("python scripts/train.py strategy=pcgrad > log 2> errors"))
    session.shell("python scripts/table.py table=community/multidigits allow_mixed=true > table 2>> errors")
    return session


@pytest.mark.slow
def test_files_of_output_hold_no_control_characters(logged):
    for name in ("log", "table", "errors"):
        text = (logged.directory / name).read_text(encoding="utf-8")
        assert not CONTROL.search(text), name
        assert text or name == "errors"


@pytest.mark.slow
def test_no_color_is_respected_on_a_terminal(logged):
    """A training has colours there (so the test can fail), a table has none."""
    plain, coloured = ({**logged.environment, "TERM": "xterm-256color", **more} for more in ({"NO_COLOR": "1"}, {}))
    train = shortened("scripts/train.py").split()
    assert COLOUR.search(on_a_terminal(train, logged.directory, coloured))
    assert not COLOUR.search(on_a_terminal(train, logged.directory, plain))
    for arguments in (["scripts/compare.py", "runs=outputs"], ["scripts/table.py", "table=list"]):
        text = on_a_terminal(arguments, logged.directory, plain)
        assert "pcgrad" in text or "multidigits" in text
        assert not COLOUR.search(text)


def on_a_terminal(arguments, directory, environment):
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, *arguments], cwd=directory, env=environment, stdout=side, stderr=side)
    os.close(side)
    parts = []
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(main)
    assert process.wait(timeout=300) == 0, b"".join(parts).decode()
    return b"".join(parts).decode()


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(tmp_path):
    session = Session(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "scripts/train.py", "--help"],
        cwd=tmp_path,
        env=session.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()  # before the first line comes
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=300) == 141


@pytest.mark.slow
def test_help_and_configuration_are_worth_reading(tmp_path):
    text = Session(tmp_path).shell("python scripts/train.py --help")
    for word in ("strategy:", "mgda_ub", "resume=RUN_DIR", "max_epochs"):
        assert word in text


@pytest.mark.slow
def test_records_shown_on_pages_have_the_keys_of_real_ones(logged):
    path = next(logged.directory.rglob("summary.json"))
    real = json.loads(path.read_text())
    for page in ("docs/first-ten-minutes.md",):
        for block in re.findall(r"```json\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL):
            assert_keys(json.loads(block), real)


def assert_keys(shown, real):
    assert set(shown) <= set(real)
    for key, value in shown.items():
        if isinstance(value, dict):
            assert_keys(value, real[key])
