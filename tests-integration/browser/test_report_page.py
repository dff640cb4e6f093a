"""`fx report` in a real browser: the page is whole, moves, fits, and asks nobody for anything."""

import json
import math
import random

import pytest
from fx_train.report import write_report

HOSTILE = "</script><script>document.title='broken'</script><!--<script>\"'&"
CURVE = "document.querySelectorAll('figure:first-of-type .curve:not(.smooth)')"


def make_run(directory, steps=400, every=5, name="loss", **about):
    chance = random.Random(0)
    rows = []
    for step in range(1, steps + 1):
        loss = 3 * math.exp(-step / (steps / 5)) + 0.05 + 0.02 * chance.random()
        row = {"step": step, "time": 1.7e9 + step, name: loss, "accuracy": 1 - loss / 4, "grad_norm": 10 * loss}
        if step % (10 * every) == 0:
            row |= {f"eval/{name}": math.nan if step == steps / 2 else loss * 1.2, "eval/accuracy": 0.98 - loss / 4}
        rows.append(row)
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "outcome": "done", "step": steps, "total_steps": steps, "started": 1.7e9, "ended": 1.7e9 + 61,
        "config": {"rate": 0.1, "model": {"depth": 3}}, "environment": {"devices": ["1 × cpu"]},
        "parameters": [{"path": f"block/{i}/kernel", "shape": [64, 2 << i], "dtype": "float32"} for i in range(6)],
        "confusion": {"eval/confusion": {"step": steps, "counts": [[30, 2, 0], [1, 28, 3], [0, 0, 33]],
                                         "classes": ["cat", "dog", "owl"]}},
        **about,
    }  # fmt: skip
    (directory / "run.json").write_text(json.dumps(content))
    return write_report(directory)


def test_it_loads_alone_and_without_complaint(show, tmp_path):
    page = show(make_run(tmp_path))
    assert page.complaints() == []
    # Nothing but the file itself.
    assert [url[:5] for url in page.requests() if not url.startswith("data:")] == ["file:"]
    assert len(page.requests()) <= 2
    assert page.evaluate("document.title") == tmp_path.name
    assert page.evaluate("document.querySelectorAll('section').length") == 5


def test_curves_are_drawn_within_their_charts(show, tmp_path):
    page = show(make_run(tmp_path))
    assert page.evaluate("document.querySelectorAll('figure').length") == 3
    assert page.evaluate(f"{CURVE}.length") == 2
    lengths = page.evaluate("[...document.querySelectorAll('.curve')].map(curve => curve.getTotalLength())")
    assert min(lengths) > 200
    inside = """[...document.querySelectorAll('.curve')].every(curve => {
        const a = curve.getBoundingClientRect(), b = curve.closest('svg').getBoundingClientRect();
        return a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom && a.height > 20; })"""
    assert page.evaluate(inside)
    strokes = page.evaluate(f"[...{CURVE}].map(curve => getComputedStyle(curve).stroke)")
    assert len(set(strokes)) == 2
    assert page.evaluate("document.querySelectorAll('.gaps').length") == 1


def test_the_pointer_shows_values_and_the_keyboard_walks(show, tmp_path):
    page = show(make_run(tmp_path))
    told = "document.querySelector('figure output').textContent"
    visible = "getComputedStyle(document.querySelector('figure output')).display"
    assert page.evaluate(visible) == "none"
    box = page.box("figure svg")
    page.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.evaluate(visible) == "block"
    step = int(page.evaluate(told).split("\n")[0].removeprefix("step "))
    assert 170 < step < 210
    assert "train 0." in page.evaluate(told)
    assert "eval not finite (step 200)" in page.evaluate(told)
    assert 0 < page.evaluate("Number(document.querySelector('figure .cross').getAttribute('x1'))") < 640
    page.evaluate("document.querySelector('figure svg').focus()")
    page.press("ArrowRight")
    assert page.evaluate(told).startswith(f"step {step + 1}\n")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.evaluate(told).startswith(f"step {step - 1}\n")
    page.move(1, 1)
    assert page.evaluate(visible) == "none"
    for share in (0.0, 0.999):  # at the edges the box stays inside
        page.move(box["x"] + box["width"] * share, box["y"] + 40)
        note = page.evaluate("document.querySelector('figure output').getBoundingClientRect().toJSON()")
        assert box["x"] - 1 <= note["x"]
        assert note["right"] <= box["right"] + 1


def test_the_legend_hides_and_shows_curves(show, tmp_path):
    page = show(make_run(tmp_path))
    shown = f"[...{CURVE}].map(curve => getComputedStyle(curve.parentNode).display != 'none')"
    assert page.evaluate(shown) == [True, True]
    page.click("figure .key", 0)
    assert page.evaluate(shown) == [False, True]
    assert page.evaluate("document.querySelector('figure .key').getAttribute('aria-pressed')") == "false"
    box = page.box("figure svg")
    page.move(box["x"] + box["width"] / 3, box["y"] + 50)
    assert "train" not in page.evaluate("document.querySelector('figure output').textContent")
    page.click("figure .key", 0)
    assert page.evaluate(shown) == [True, True]


def test_smoothing_draws_calmer_curves_over_the_faint_ones(show, tmp_path):
    page = show(make_run(tmp_path))
    assert page.evaluate("getComputedStyle(document.querySelector('#smoothing')).display") == "flex"
    slider = "document.querySelector('#smoothing input')"
    set_to = f"(v => {{{{ {slider}.value = v; {slider}.dispatchEvent(new Event('input')) }}}})({{}})"
    page.evaluate(set_to.format(0.9))
    assert page.evaluate("document.querySelectorAll('.smooth').length") == page.evaluate(
        "document.querySelectorAll('.curve:not(.smooth)').length"
    )
    ends = "[...document.querySelectorAll('{}')].map(curve => curve.getTotalLength())[0]"
    assert page.evaluate(ends.format(".smooth")) < page.evaluate(ends.format(".curve:not(.smooth)"))
    assert float(page.evaluate(f"getComputedStyle({CURVE}[0]).opacity")) < 0.5
    page.evaluate(set_to.format(0))
    assert page.evaluate("document.querySelectorAll('.smooth').length") == 0
    assert page.complaints() == []


def test_links_lead_to_sections_and_the_matrix_can_be_read(show, tmp_path):
    page = show(make_run(tmp_path))
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    page.click("nav a", 1)
    assert page.evaluate("location.hash") == "#confusion-0"
    cells = page.evaluate("[...document.querySelectorAll('.hit')].map(cell => cell.textContent)")
    assert cells == ["30", "28", "33"]
    colors = page.evaluate(
        "[...document.querySelectorAll('.confusion td')].map(c => getComputedStyle(c).backgroundColor)"
    )
    assert len(set(colors)) > 4
    box = page.box(".confusion")
    assert box["width"] > 200
    assert box["height"] > 100


BRIGHTNESS = """(() => {
  const light = name => { const c = document.createElement('canvas').getContext('2d');
    c.fillStyle = getComputedStyle(document.querySelector(name[0]))[name[1]]; c.fillRect(0, 0, 1, 1);
    const [r, g, b] = c.getImageData(0, 0, 1, 1).data; return (r + g + b) / 765; };
  return [['body', 'backgroundColor'], ['body', 'color'], ['section', 'backgroundColor'], ['.curve', 'stroke'],
          ['.tick', 'fill'], ['.tile span', 'color']].map(light); })()"""


def test_light_and_dark_are_both_readable(show, tmp_path):
    file = make_run(tmp_path)
    back, ink, card, curve, tick, dim = show(file, scheme="light").evaluate(BRIGHTNESS)
    assert min(back, card) > 0.9
    assert ink < 0.3
    assert max(curve, tick, dim) < card - 0.3
    back, ink, card, curve, tick, dim = show(file, scheme="dark").evaluate(BRIGHTNESS)
    assert max(back, card) < 0.2
    assert ink > 0.8
    assert min(curve, tick, dim) > card + 0.3


LONG = {"a_very_long_name_of_a_setting_" * 4: "value" * 60, HOSTILE: HOSTILE}


@pytest.mark.parametrize("width", [320, 390, 768, 1240])
def test_nothing_is_wider_than_the_window(show, tmp_path, width):
    parameters = [{"path": "/".join(["a_module_with_a_name"] * 8), "shape": [3, 3, 128, 128], "dtype": "float32"}]
    counts = [[12_345 if i == j else 7 for j in range(20)] for i in range(20)]
    confusion = {"eval/confusion": {"step": 1, "counts": counts, "classes": [f"class number {i}" for i in range(20)]}}
    error = "NonFiniteError: " + "x" * 300
    file = make_run(tmp_path, name="n" * 90, config=LONG, parameters=parameters, confusion=confusion, outcome=error)
    page = show(file, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className)"
    )
    assert wide == []


def test_hostile_names_stay_names(show, tmp_path):
    table = {"step": 1, "counts": [[1, 0], [0, 1]], "classes": [HOSTILE, "b"]}
    file = make_run(
        tmp_path,
        name=HOSTILE,
        config=LONG,
        environment={"x": HOSTILE},
        confusion={HOSTILE: table, f'" onload="{HOSTILE}': table},
        parameters=[{"path": HOSTILE, "shape": [1], "dtype": HOSTILE}],
        outcome=f"ValueError: {HOSTILE}",
    )
    page = show(file)
    assert page.complaints() == []
    assert page.evaluate("document.title") == tmp_path.name
    assert page.evaluate("document.querySelectorAll('section').length") == 6
    assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 1
    assert HOSTILE.split("/")[-1] in page.evaluate("document.querySelector('main').textContent")
    assert page.evaluate("document.querySelectorAll('figure').length") == page.evaluate("charts.length")


def test_huge_runs_load_in_seconds(show, tmp_path):
    file = make_run(tmp_path, steps=100_000, every=100)
    assert file.stat().st_size < 1_000_000
    page = show(file)
    assert page.complaints() == []
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 20_000
    box = page.box("figure svg")
    page.move(box["x"] + box["width"] / 2, box["y"] + 50)
    assert page.evaluate("document.querySelector('figure output').textContent").startswith("step ")


def test_many_charts_many_classes_and_no_records_at_all(show, tmp_path):
    rows = [{"step": s, **{f"layer_{i}/norm_{i}": math.sin(s * i) for i in range(100)}} for s in range(1, 50)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = [[50 if i == j else (i * j) % 3 for j in range(200)] for i in range(200)]
    (tmp_path / "run.json").write_text(json.dumps({"confusion": {"c": {"step": 9, "counts": counts}}}))
    page = show(write_report(tmp_path))
    assert page.complaints() == []
    assert page.evaluate("charts.length") == 100
    assert page.evaluate("document.querySelector('.matrix').naturalWidth") == 200
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "run.json").write_text("{}")
    page = show(write_report(tmp_path))
    assert page.complaints() == []
    assert page.evaluate("document.querySelector('h1').textContent.trim()") == tmp_path.name


def test_without_scripts_everything_is_there(show, browser, tmp_path):
    file = make_run(tmp_path)
    still = tmp_path / "still.html"
    still.write_text(file.read_text().rsplit("<script>", 1)[0])
    page = show(still)
    assert page.evaluate(f"{CURVE}.length") == 2
    assert page.evaluate("getComputedStyle(document.querySelector('#smoothing')).display") == "none"
