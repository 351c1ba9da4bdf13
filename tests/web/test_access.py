"""The page for everybody: keyboard, screen reader, small screens, dark, less motion."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

from tests.web.conftest import Visit, photo

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
WIDE = {"viewport": {"width": 1280, "height": 800}}


def assert_axe_finds_nothing_serious(visit: Visit) -> None:
    violations = Axe().run(visit.page).response["violations"]
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in violations
        if violation["impact"] in {"serious", "critical"}
    ]
    assert serious == []


@pytest.mark.parametrize(
    "context_options",
    [PHONE | {"color_scheme": "dark"}, WIDE | {"color_scheme": "light"}],
    ids=["phone, dark", "wide, light"],
)
def test_axe_finds_nothing_serious(visit: Visit) -> None:
    assert_axe_finds_nothing_serious(visit)
    visit.choose(photo("one.png"), photo("two.png", turned=90))
    visit.wait_for_answer()
    visit.page.locator("summary").click()
    visit.page.locator("#captions li button").first.focus()
    assert_axe_finds_nothing_serious(visit)
    visit.page.get_by_role("button", name="Remove all").click()
    expect(visit.page.locator("#label-error")).to_be_visible()
    assert_axe_finds_nothing_serious(visit)


def tab_to(visit: Visit, target: Locator) -> None:
    """Press Tab until the target has the focus."""
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        if target.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"{target} is not reached by Tab")


def test_the_keyboard_alone_leads_to_an_answer_and_through_it(visit: Visit) -> None:
    page, press = visit.page, visit.page.keyboard.press
    # Choosers are caught from the first listener on, but a moment after it is added.
    page.on("filechooser", lambda _: None)
    tab_to(visit, page.get_by_label("Choose a photo"))
    with page.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files(photo())
    tab_to(visit, page.get_by_label("Add a label"))
    page.keyboard.type("tree")
    press("Enter")
    assert visit.labels()[-1] == "tree"
    expect(page.locator("#all-predictions")).to_have_text("Show all 9 labels")
    tab_to(visit, page.get_by_role("radio", name="Confidence"))
    press("ArrowRight")
    expect(page.get_by_role("radio", name="Product")).to_be_checked()
    expect(page.locator("#image-weight")).to_have_text("90.0%")
    tab_to(visit, page.get_by_label("Captions that vote"))
    press("ArrowRight")
    expect(page.locator("#captions-title")).to_have_text("17 captions voted")
    tab_to(visit, page.locator("#captions li button").first)
    expect(page.get_by_role("tooltip").first).to_be_visible()
    tab_to(visit, page.get_by_role("button", name="Copy as curl"))
    press("Enter")
    expect(page.get_by_role("status")).to_have_text("Copied")


@pytest.mark.parametrize("context_options", [PHONE])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(visit: Visit) -> None:
    page = visit.page
    expect(page.get_by_text("Take one")).to_be_visible()
    page.get_by_label("Add a label").fill(f"{'long' * 9}, {'many words ' * 3}")

    def assert_it_fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360

    assert_it_fits()
    visit.choose(photo(f"{'name' * 30}.png"))
    visit.wait_for_answer()
    expect(page.locator("#best")).to_be_in_viewport()
    page.locator("summary").tap()
    page.locator("#captions li button").first.tap()
    expect(page.get_by_role("tooltip").first).to_be_visible()
    assert_it_fits()


def lightness(visit: Visit) -> float:
    """Of the page's background: 0 black, 1 white."""
    colour: str = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]
    return sum(channels) / 3 / 255


@pytest.mark.parametrize(
    ("context_options", "dark"),
    [({"color_scheme": "dark"}, True), ({"color_scheme": "light"}, False)],
)
def test_it_is_as_dark_as_the_system_until_one_chooses(visit: Visit, dark: bool) -> None:
    assert (lightness(visit) < 0.5) == dark
    visit.page.locator("#theme").click()
    assert (lightness(visit) > 0.5) == dark
    visit.page.reload()
    assert (lightness(visit) > 0.5) == dark


def test_nothing_moves_for_those_who_want_less_motion(visit: Visit) -> None:
    visit.choose(photo())
    visit.wait_for_answer()
    durations: list[str] = visit.page.evaluate(
        """[...document.querySelectorAll("*")].map((e) => getComputedStyle(e).transitionDuration)"""
    )
    assert set(durations) == {"0s"}


def test_what_happens_is_said_aloud(visit: Visit) -> None:
    status = visit.page.get_by_role("status")
    visit.choose(photo())
    expect(status).to_contain_text("The image weighs")
    visit.page.get_by_role("radio", name="Image").check()
    expect(status).to_contain_text("The image weighs 100%, the captions 0%")
