"""The page as text: what is on it, and that it says what the table says. tests/integration/test_report.py opens it."""

import html
import io
import random
import re

import pytest

from mtl.errors import UserError
from mtl.results.noise import LARGER, paired_difference
from mtl.results.report import gather, read_picture, render
from mtl.results.report.differences import verdicts
from mtl.results.report.pictures import WIDTH
from mtl.results.report.results import BEST, within_noise
from mtl.results.report.scatter import pareto
from mtl.results.styles import COLORS
from mtl.results.tables import compare
from tests.unit.results.report.synthetic import write_runs
from tests.unit.results.test_runs import write_run

NASTY = '</script><script>alert(1)</script> "quoted" & <b>bold</b>'
LOST = [("mgda", "diverged", NASTY)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"), methods=9, lost=LOST)


@pytest.fixture(scope="module")
def page(runs):
    return render(gather(runs))


def anchors(page):
    return re.findall(r'<section id="(\w+)"', page)


def test_every_section_is_there_if_the_runs_have_its_data(page):
    expected = "results differences gains time tasks curves weights conflicts structure lost protocol"
    assert anchors(page) == expected.split()
    assert len(re.findall(r'<p class="aid">', page)) == len(anchors(page))  # each with its reading aid
    for anchor in anchors(page):
        assert f'href="#{anchor}"' in page


def test_sections_without_data_are_left_out(tmp_path):
    made = [write_run(tmp_path, "u"), write_run(tmp_path, "m", "mgda")]
    for run in made:
        (run.path / "metrics.jsonl").write_text('{"event":"end"}\n')
    assert anchors(render(gather(made))) == ["results", "differences", "tasks", "protocol"]


def test_only_single_task_runs_still_make_a_page(tmp_path):
    made = [write_run(tmp_path, task, values={task: 80.0}) for task in ("left", "right")]
    assert anchors(render(gather(made))) == ["results", "curves", "protocol"]


def test_a_page_without_any_completed_run_names_them(tmp_path):
    page = render(gather([write_run(tmp_path, "a", status="failed", message=NASTY)]))
    assert "lost" in anchors(page)
    assert "alert(1)&lt;/script&gt;" in page


def test_text_of_runs_stays_text(page, runs):
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &#34;quoted&#34; &amp; &lt;b&gt;bold&lt;/b&gt;" in page
    assert any(run.message == NASTY for run in runs)


def test_the_page_needs_nothing_but_itself(page):
    assert not re.search(r"https?://|//[a-z]|@import|url\(", page)
    for source in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert source.startswith(("#", "data:"))
    assert "default-src 'none'" in html.unescape(page)


def test_ids_are_unique_and_references_have_targets(page):
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'href="#([^"]*)"', page) + re.findall(r'aria-(?:labelledby|controls)="([^"]*)"', page)
    assert set(wanted) <= set(ids)


def test_the_page_is_a_function_of_the_runs(page, runs):
    for seed in range(3):
        assert render(gather(random.Random(seed).sample(runs, len(runs)))) == page


def test_a_method_has_the_colour_of_the_figures(runs):
    material = gather(runs)
    order = sorted(label for label, look in material.looks.items() if not look.baseline)
    style = re.search(r"--c0:.*?;", render(material)).group()
    assert COLORS[0].lower() in style
    for label, look in material.looks.items():
        if not look.baseline:
            assert look.css.split()[0] == f"c{order.index(label) % len(COLORS)}"


def test_best_values_are_marked_in_the_direction_of_the_metric(tmp_path):
    made = write_runs(tmp_path, methods=5, tasks=("segmentation", "depth", "normals"))
    comparison, page = compare(made), render(gather(made))
    table = re.search(r'<section id="results".*?</table>', page, re.DOTALL).group()
    cells = {}
    for line in re.findall(r"<tr data-m=.*?</tr>", table):
        values = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)
        cells[re.sub(r"<.*?>", "", values[0])] = values
    first = 4  # method, two definitions of Delta_m, mean rank
    for number, column in enumerate(comparison.columns):
        means = {row.label: row.values[column].mean for row in comparison.rows if row.label != "single_task"}
        best = max(means, key=lambda label: means[label] * (1 if column.higher_is_better else -1))
        marked = [label for label, values in cells.items() if BEST in values[first + number]]
        assert marked == [best]
        assert "best " in cells[best][first + number]  # for screen readers too


def test_near_the_best_is_what_the_verdict_calls_within_seed_noise():
    for sequence in range(20):
        dice = random.Random(sequence)
        one, other = ({seed: dice.gauss(shift, 1) for seed in range(4)} for shift in (0, 2))
        assert within_noise(one, other) == (paired_difference(one, other).verdict != LARGER)
    assert not within_noise({0: 1.0}, {0: 1.0})  # one seed: nothing is known


def test_verdicts_in_words_and_in_the_table_are_those_of_the_statistics(page, runs):
    material = gather(runs)
    (found,) = verdicts(material)
    assert found.reference.label == "uniform"
    rows = {row.label: row for row in material.rows}
    for label, difference in found.differences.items():
        ours, base = (
            {seed: values["Delta_m"] for seed, values in rows[name].delta_per_seed.items()}
            for name in (label, "uniform")
        )
        assert difference == paired_difference(ours, base)
        line = re.search(rf'<tr data-m="{material.looks[label].key}">(?:(?!</tr>).)*{difference.verdict}', page)
        assert line is not None
    better = found.beyond_noise(1)
    assert better
    assert f"{len(better) + len(found.beyond_noise(-1))} of 8 methods" in page


def test_lower_is_better_turns_the_verdict(tmp_path):
    values = {"a": {"error": 2.0}, "b": {"error": 2.0}}
    made = []
    for seed in range(3):
        made.append(write_run(tmp_path, f"u{seed}", "uniform", seed, values, higher=False))
        better = {task: {"error": 1.0 + 0.01 * seed} for task in values}
        made.append(write_run(tmp_path, f"m{seed}", "mgda", seed, better, higher=False))
    material = gather(made)  # without baselines: the metrics themselves are compared
    assert [one.beyond_noise(1) for one in verdicts(material)] == [["mgda"], ["mgda"]]
    assert "better is mgda (\N{MINUS SIGN}0.99)" in render(material)


def test_few_seeds_mixed_settings_and_missing_baselines_are_said(tmp_path):
    made = write_runs(tmp_path, seeds=1, baselines=False)
    page = render(gather(made, commands=["python scripts/train.py -m 'dataset.tasks=[left],[right]' <&>"]))
    assert "Fewer than three seeds" in page
    assert "against uniform: one shared seed" in page
    assert "dataset.tasks=[left],[right]&#39; &lt;&amp;&gt;" in page
    assert "Delta_m %" not in page.split("</table>")[0]
    other = write_run(tmp_path, "other", "mgda", setting_hash="0ther00000", config_hash="zzz")
    with pytest.raises(UserError, match="allow_mixed"):
        gather([*made, other])
    assert "ettings are mixed" in render(gather([*made, other], allow_mixed=True))


def test_lines_of_many_methods_stay_grey_but_for_the_first(tmp_path):
    material = gather(write_runs(tmp_path, methods=20, seeds=2))
    grey = [look.label for look in material.looks.values() if look.context]
    assert grey == [row.label for row in material.competitors][9:]
    page = render(material)
    assert "grey: 11 other methods" in page
    assert len(re.findall(r'class="band"', page)) < len(re.findall(r'class="l"', page))


def test_pareto_front():
    assert pareto([(0, 3), (1, 1), (2, 2), (3, 0), (2, 2)]) == [0, 2, 4, 3]
    assert pareto([]) == []


def test_pictures_are_inside_and_not_larger_than_needed(tmp_path, runs):
    from dataclasses import replace

    from PIL import Image

    Image.new("RGB", (2 * WIDTH, 10), "red").save(tmp_path / "predictions.png")
    picture = read_picture(tmp_path / "predictions.png")
    assert Image.open(io.BytesIO(picture.data)).size == (WIDTH, 5)
    page = render(replace(gather(runs), pictures=(picture,)))
    assert "predictions" in anchors(page)
    assert 'src="data:image/webp;base64,' in page
    (tmp_path / "no.png").write_text("text")
    for name in ("no.png", "missing.png"):
        with pytest.raises(UserError, match=name):
            read_picture(tmp_path / name)


def test_of_many_tasks_the_pairs_at_both_ends_are_shown():
    from mtl.results.report.material import Look
    from mtl.results.report.structure import PAIRS, _matrix

    tasks = [f"t{i}" for i in range(20)]
    matrix = tuple(tuple(None if i == j else 100.0 * i + j for j in range(20)) for i in range(20))
    page = str(_matrix(Look(0, "m", "c0", "dot", False), tasks, matrix))
    pairs = re.findall(r"(t\d+) → (t\d+)", page)
    values = [int(a[1:]) * 100 + int(b[1:]) for a, b in pairs]
    everything = sorted((100 * i + j for i in range(20) for j in range(20) if i != j), reverse=True)
    assert values == everything[:PAIRS] + everything[-PAIRS:]
