"""The page and the tables, from made-up figures: complete, self-contained, fit to be shown light or dark."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pioxide.report import Level, findings, page, print_report, write_page
from pioxide.report.digits import short
from pioxide.report.error_map import error_map
from pioxide.report.facts import ActionDensity, JointRanges, Prompts, Report, Source, Tokens
from pioxide.report.measure import ErrorMeter
from support.html import Checker


def made_up(joints=4, horizon=10, model="pi0_fast", seed=0) -> Report:
    rng = np.random.default_rng(seed)
    names = tuple(f"joint_{i}" for i in range(joints))
    original = rng.normal(size=(40, horizon, joints))
    errors = ErrorMeter(horizon, joints, worst=3)
    for episode in range(4):
        part = original[episode * 10 : episode * 10 + 10]
        errors.add(episode, np.arange(10), part, part + rng.normal(scale=0.02, size=part.shape))
    low, high = original.min(axis=(0, 1)), original.max(axis=(0, 1))
    q01, q99 = np.quantile(original.reshape(-1, joints), [0.01, 0.99], axis=0)
    ranges = JointRanges(
        names,
        low,
        high,
        q01,
        q99,
        np.zeros(joints),
        np.ones(joints),
        np.full(joints, 0.02),
        np.full(joints, 1.4),
    )
    return Report(
        source=Source(
            "two <arms> & a table",
            model,
            "/data/x",
            "aloha",
            50,
            horizon,
            joints,
            names,
            4,
            40,
            {"scale": "10"},
        ),
        actions=ranges,
        state=ranges,
        tokens=Tokens(rng.integers(5, 20, 40), np.repeat(np.arange(4), 10), rng.integers(0, 9, 300), 0, 0),
        reconstruction=errors.result(40, np.full(joints, 0.5)),
        prompts=Prompts(rng.integers(20, 90, 40), 100),
        density=ActionDensity(rng.integers(0, 50, (joints, 100)), np.linspace(-2, 2, 101)),
    )


@pytest.mark.parametrize(("joints", "horizon"), [(1, 1), (3, 10), (26, 50)])
def test_the_page_is_one_well_formed_file_that_fetches_nothing(joints, horizon):
    html = page(made_up(joints, horizon))
    checker = Checker()
    checker.feed(html)
    checker.assert_whole()
    assert "<script" not in html
    assert "@import" not in html


def test_pictures_take_every_colour_from_the_page():
    html = page(made_up())
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    pictures = re.sub(r'href="data:[^"]+"', "", pictures)
    assert "var(--first)" in pictures
    assert set(re.findall(r"#[0-9a-f]{6}\b", pictures)) <= {
        "#ffffff"
    }  # matplotlib's invisible background patch
    assert "DejaVu" not in pictures


def test_names_from_the_dataset_are_escaped():
    html = page(made_up())
    assert "two &lt;arms&gt; &amp; a table" in html
    assert "<arms>" not in html


def test_the_same_report_gives_the_same_page():
    assert page(made_up()) == page(made_up())


def test_each_model_shows_what_it_has():
    report = made_up()
    assert "Use of the vocabulary" in page(report)
    plain = replace(
        report, source=replace(report.source, model="pi05"), tokens=None, reconstruction=None, state=None
    )
    html = page(plain)
    assert "Use of the vocabulary" not in html
    assert "The worst chunks" not in html
    assert "Prompt lengths" in html
    assert "Normalised actions" in html
    bare = replace(plain, actions=None, density=None, missing="The dataset is not at hand.")
    assert "The dataset is not at hand." in page(bare)
    assert "Statistics" not in page(bare)


def test_findings_warn_of_what_was_cut_clipped_left_out_or_changed():
    fine = made_up()
    assert not [f for f in findings(fine) if f.level is Level.WARNING]
    assert fine.tokens is not None
    bad = replace(
        fine,
        tokens=replace(fine.tokens, clipped_chunks=3, clipped_coefficients=17),
        prompts=Prompts(np.array([90, 101, 130]), 100),
        skipped=((2, "episode_000002.parquet: no footer"),),
        differing=5,
    )
    warnings = " ".join(f.text for f in findings(bad) if f.level is Level.WARNING)
    for expected in (
        "17 coefficients of 3 chunks",
        "2 prompts",
        "--max-len 130 holds them all",
        "1 episode left out: 2",
        "5 rows",
    ):
        assert expected in warnings
    assert findings(bad)[0].level is Level.WARNING
    html = page(bad)
    assert "episode_000002.parquet: no footer" in html


def test_joints_that_never_move_are_named():
    report = made_up()
    still = replace(report.actions, low=np.zeros(4), high=np.array([0.0, 1, 1, 1]))
    texts = " ".join(f.text for f in findings(replace(report, actions=still, state=None)))
    assert "joint_0 never moves in the actions" in texts
    assert "never moves" in page(replace(report, actions=still))


def test_compression_is_values_over_tokens_and_bits_over_bits():
    report = replace(
        made_up(), tokens=Tokens(np.array([4, 6]), np.array([0, 0]), np.ones(1024, np.int64), 0, 0)
    )
    assert report.naive_tokens == 40
    assert report.compression == 8.0
    assert report.bit_compression == pytest.approx(8 * 8 / 10)


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_findings_and_every_joint(width):
    console = Console(width=width, record=True, file=io.StringIO())
    print_report(made_up(), console)
    text = console.export_text()
    for expected in ("joint_0", "joint_3", "tokens a chunk", "Worst chunks", "nothing was clipped"):
        assert expected in text
    assert "…" not in text


def test_a_page_that_fails_to_be_made_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_page(made_up(), path)
    before = path.read_text()

    def broken(_):
        raise RuntimeError("no")

    monkeypatch.setattr("pioxide.report.html.page", broken)
    with pytest.raises(RuntimeError):
        write_page(made_up(), path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0141234, "0.0141"),
        (1234.5, "1234"),
        (0.5, "0.5"),
        (-3.14159, "-3.14"),
        (1e-7, "1.00e-07"),
        (999.9, "1000"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert short(value) == text


def test_every_section_is_in_the_contents_and_every_table_can_be_scrolled():
    text = page(made_up())
    titles = re.findall(r'<h2 id="([^"]+)">', text)
    assert re.findall(r'<a href="#([^"]+)">', text) == titles
    assert titles == list(dict.fromkeys(titles))
    assert text.count("<table>") == text.count('<div class="scroll"><table>')


def test_what_is_in_order_is_said_by_the_figures_alone():
    text = page(made_up())
    assert 'class="good"' not in text
    assert 'class="main"' in text


def test_the_shades_of_the_error_map_have_a_scale():
    report = made_up()
    assert report.reconstruction is not None
    svg = error_map(report.source.joints, report.reconstruction).svg
    assert svg.count("<mask ") == 2
    assert svg.count('id="map-tint0"') == svg.count('id="map-tint1"') == 1
