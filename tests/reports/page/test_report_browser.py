"""The report in a browser: on a screen, on a phone, in dark mode and printed."""

import pytest

from tests import browser as chromium

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing())]

OPEN = "document.querySelectorAll('details').forEach(one => one.open = true);"
BROKEN = "return [...document.images].filter(one => !one.naturalWidth).map(one => one.alt)"
# Boxes that stick out of the page, save for what scrolls in a box of its own.
OVERFLOWING = """
const wide = document.documentElement.clientWidth + 1;
return [...document.body.querySelectorAll('*')].filter(one => !one.closest('.scroll table, svg')
    && one.getBoundingClientRect().right > wide).map(one => one.outerHTML.slice(0, 90))"""
# Texts that stick out of their figure, where they are cut.
CUT = """
return [...document.querySelectorAll('svg text')].filter(one => {
    const inner = one.getBoundingClientRect(), outer = one.closest('svg').getBoundingClientRect();
    return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 2
        || inner.bottom > outer.bottom + 2; }).map(one => one.textContent)"""


@pytest.fixture(scope="module")
def browser():
    with chromium.browser() as started:
        yield started


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_overflows_every_image_loads_and_the_console_is_silent(browser, page_file, width, scheme):
    browser.open(page_file, width, scheme=scheme)
    browser.run(OPEN)
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run(OVERFLOWING) == []
    assert browser.run(CUT) == []
    assert browser.run("return document.images.length") > 8
    assert browser.run(BROKEN) == []
    assert browser.log() == []


def test_on_a_phone_tables_of_words_are_lists_and_wide_tables_show_that_they_go_on(browser, page_file):
    browser.open(page_file, 390)
    browser.run(OPEN)
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    assert browser.run(f"return {wide}.length") > 0
    assert browser.run(f"return {wide}.filter(one => one.classList.contains('words')).length") == 0
    assert browser.run(f"return {wide}.every(one => getComputedStyle(one).backgroundImage.includes('gradient'))")


def test_figures_take_the_colours_of_the_readers_scheme(browser, page_file):
    colours = {}
    for scheme in ("light", "dark"):
        browser.open(page_file, 1280, scheme=scheme)
        colours[scheme] = browser.run(
            "const of = one => getComputedStyle(one);"
            "return [of(document.querySelector('svg text')).fill, of(document.querySelector('h2')).color,"
            " of(document.querySelector('section')).backgroundColor]"
        )
    for text, heading, ground in colours.values():
        assert text == heading != ground
    assert all(light != dark for light, dark in zip(colours["light"], colours["dark"], strict=True))


def test_on_paper_everything_is_light_open_and_within_the_sheet(browser, page_file, tmp_path):
    sheet = 695  # pixels: 210 mm less the margins
    browser.open(page_file, sheet, scheme="dark")
    assert "hidden" in {browser.run("return getComputedStyle(document.querySelector('details:not([open])'), "
                                    "'::details-content').contentVisibility")}  # fmt: skip
    browser.devtools(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    try:
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.run("return [...document.querySelectorAll('figure svg, .images img')]"
                           ".filter(one => !one.checkVisibility()).length") == 0  # fmt: skip
        assert browser.run("return document.documentElement.scrollWidth") <= sheet
        assert browser.run(OVERFLOWING) == []
        browser.pdf(tmp_path / "report.pdf")
    finally:
        browser.devtools("Emulation.setEmulatedMedia", media="", features=[])
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
