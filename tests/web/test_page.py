"""What people do on the page: photo, labels, answer, captions, settings, and the copied call."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect

from app.xmore.ensemble import Fusion
from tests.conftest import CAPTIONS
from tests.photos import encode, gradient
from tests.web.conftest import Visit, photo

STARTING = ["cat", "dog", "bird", "flower", "car", "food", "person", "building"]


def classify(client: httpx.Client, image: bytes, **fields: Any) -> Any:
    response = client.post("/v1/classify", files={"image": ("a.png", image)}, data=fields)
    assert response.status_code == 200, response.text
    return response.json()


def shares(answer: Any) -> dict[str, str]:
    """Shares as the page shows them."""

    def shown(share: float) -> str:
        if share in {0, 1}:
            return f"{100 * share:g}%"
        return "<0.1%" if share < 0.001 else ">99.9%" if share > 0.999 else f"{100 * share:.1f}%"

    return {p["label"]: shown(p["probability"]) for p in answer["results"][0]["predictions"]}


def test_a_photo_is_answered_as_the_api_does(visit: Visit, server: httpx.Client) -> None:
    page = visit.page
    assert visit.labels() == STARTING
    visit.choose(photo())
    visit.wait_for_answer()
    answer = classify(server, photo()["buffer"], labels=STARTING)
    assert visit.predicted() == shares(answer)
    (result,) = answer["results"]
    assert page.locator("#best-label").inner_text() == result["predictions"][0]["label"]
    for name, modality in result["modalities"].items():
        assert page.locator(f"#{name}-weight").inner_text() == f"{100 * modality['weight']:.1f}%"
        confidence = page.locator(f"#{name}-confidence").inner_text()
        assert confidence == f"{modality['confidence']:.2f}"
    captions = page.locator("#captions li .words").all_inner_texts()
    assert captions[:8] == [caption["text"] for caption in result["captions"][:8]]
    assert (
        f"{result['captions'][0]['similarity']:.3f}"
        in page.locator("#captions li").first.inner_text()
    )
    expect(page.get_by_role("status")).to_contain_text(result["predictions"][0]["label"])


@pytest.mark.parametrize("fusion", ["Confidence", "Product"])
def test_a_bar_is_as_long_as_its_share_and_split_by_who_said_it(visit: Visit, fusion: str) -> None:
    visit.choose(photo())
    visit.wait_for_answer()
    visit.page.get_by_role("radio", name=fusion, exact=True).check()
    first = visit.page.locator("#predictions > li").first
    scale, *parts = (
        box["width"]
        for box in (
            first.locator(".fused").bounding_box(),
            first.locator(".fused .image").bounding_box(),
            first.locator(".fused .text").bounding_box(),
        )
        if box is not None
    )
    share = float(first.locator(".share").inner_text().removesuffix("%"))
    assert sum(parts) / scale == pytest.approx(share / 100, abs=0.01)
    assert all(part > 0 for part in parts)


def test_a_photo_can_be_dropped(visit: Visit) -> None:
    visit.page.evaluate(
        """(bytes) => {
            const dataTransfer = new DataTransfer();
            const file = new File([Uint8Array.from(bytes)], "a.png", {type: "image/png"});
            dataTransfer.items.add(file);
            for (const type of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(type, {dataTransfer, bubbles: true, cancelable: true});
                document.getElementById("drop").dispatchEvent(event);
            }
        }""",
        list(photo()["buffer"]),
    )
    visit.wait_for_answer()
    expect(visit.page.get_by_role("img", name="a.png")).to_be_visible()


def test_what_is_dropped_and_is_no_image_is_told_so(visit: Visit) -> None:
    visit.choose({"name": "a.txt", "mimeType": "text/plain", "buffer": b"words"})
    expect(visit.page.locator("#photo-error")).to_contain_text("no image file")
    assert visit.asked == 0


def test_a_photo_can_be_pasted(visit: Visit) -> None:
    visit.page.evaluate(
        """async (bytes) => {
            const blob = new Blob([Uint8Array.from(bytes)], {type: "image/png"});
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }""",
        list(photo()["buffer"]),
    )
    visit.page.keyboard.press("Control+V")
    visit.wait_for_answer()


def test_labels_are_typed_pasted_and_removed(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Remove all").click()
    assert visit.labels() == []
    entry = page.get_by_label("Add a label")
    expect(entry).to_be_focused()
    entry.press_sequentially("red  panda,  owl ,")
    entry.press("Enter")
    assert visit.labels() == ["red panda", "owl"]
    entry.press_sequentially("owl")
    entry.press("Enter")
    assert visit.labels() == ["red panda", "owl"]
    for pasted in ("fox\nhare\n\nowl", "ant\tbee; wasp", '["cats, dogs", "[x"]'):
        page.evaluate("(text) => navigator.clipboard.writeText(text)", pasted)
        entry.press("Control+V")
    added = ["fox", "hare", "ant", "bee", "wasp", "cats, dogs", "[x"]
    assert visit.labels() == ["red panda", "owl", *added]
    page.get_by_role("button", name="Remove owl").click()
    expect(page.get_by_role("button", name="Remove fox")).to_be_focused()
    entry.press("Backspace")
    assert visit.labels() == ["red panda", *added[:-1]]
    expect(page.get_by_role("status")).to_have_text("[x removed")


def test_other_labels_are_asked_about_without_choosing_the_photo_again(
    visit: Visit, server: httpx.Client
) -> None:
    visit.choose(photo())
    visit.wait_for_answer()
    visit.page.get_by_role("button", name="Remove building").click()
    expect(visit.page.locator("#predictions > li")).to_have_count(len(STARTING) - 1)
    assert visit.predicted() == shares(classify(server, photo()["buffer"], labels=STARTING[:-1]))
    visit.page.get_by_role("button", name="Remove all").click()
    expect(visit.page.locator("#label-error")).to_have_text("Add at least one label.")


def test_a_single_label_that_looks_like_json_is_a_label(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Remove all").click()
    visit.page.get_by_label("Add a label").fill("[x,")
    visit.choose(photo())
    visit.wait_for_answer()
    assert visit.predicted() == {"[x": "100%"}


def test_captions_and_fusion_answer_at_once_without_asking_again(
    visit: Visit, server: httpx.Client
) -> None:
    page = visit.page
    visit.choose(photo())
    visit.wait_for_answer()
    page.get_by_label("Captions that vote").fill("3")
    expect(page.locator("#captions-title")).to_have_text("3 captions voted")
    expect(page.locator("#captions li:visible .words")).to_have_count(3)
    for name, fusion in (
        ("Product", "product"),
        ("Mean", "mean"),
        ("Image", "image"),
        ("Captions", "text"),
    ):
        page.get_by_role("radio", name=name, exact=True).check()
        answer = classify(server, photo()["buffer"], labels=STARTING, captions=3, fusion=fusion)
        assert visit.predicted() == shares(answer)
    page.get_by_label("Captions that vote").fill("0")
    answer = classify(server, photo()["buffer"], labels=STARTING, captions=0)
    assert visit.predicted() == shares(answer)
    expect(page.locator("#captions")).to_be_hidden()
    expect(page.locator("#agreement")).to_contain_text("No caption voted")
    assert visit.asked == 1


@given(
    k=st.integers(0, len(CAPTIONS) + 2),
    fusion=st.sampled_from(Fusion),
    count=st.integers(1, len(STARTING)),
    turned=st.sampled_from([0, 90]),
)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_page_fuses_as_the_server_does(
    visit: Visit, server: httpx.Client, k: int, fusion: Fusion, count: int, turned: int
) -> None:
    labels = STARTING[:count]
    image = encode(gradient().rotate(turned))
    asked = classify(server, image, labels=labels, captions=64, votes="true")["results"][0]
    fused = visit.page.evaluate(
        """async ([result, labels, k, fusion]) =>
            (await import("./assets/fusion.js")).fuse(result, labels, k, fusion)""",
        [asked, labels, k, fusion],
    )
    (told,) = classify(server, image, labels=labels, captions=k, fusion=fusion)["results"]
    by_label = {p["label"]: p for p in told["predictions"]}
    for p in fused["predictions"]:
        for mine, theirs in (
            ("probability",) * 2,
            ("image", "image_probability"),
            ("text", "text_probability"),
        ):
            assert p[mine] == pytest.approx(by_label[p["label"]][theirs], abs=1e-6)
    for name, modality in told["modalities"].items():
        assert fused[name] == pytest.approx(modality, abs=1e-6)
    assert [c["id"] for c in fused["captions"]] == [c["id"] for c in told["captions"]]


def test_a_caption_shows_what_it_voted_for(visit: Visit, server: httpx.Client) -> None:
    visit.choose(photo())
    visit.wait_for_answer()
    answer = classify(server, photo()["buffer"], labels=STARTING, votes="true")
    votes = answer["results"][0]["captions"][1]["votes"]
    best, share = max(votes.items(), key=lambda vote: vote[1])
    item = visit.page.locator("#captions ol > li").nth(1)
    card, button = item.get_by_role("tooltip"), item.get_by_role("button")
    expect(card).to_be_hidden()
    item.hover()
    expect(card).to_be_visible()
    assert card.locator("li").first.inner_text().split() == [best, f"{100 * share:.1f}%"]
    visit.page.get_by_role("heading", level=1).hover()
    expect(card).to_be_hidden()
    button.focus()
    expect(card).to_be_visible()
    expect(button).to_have_accessible_description(card.inner_text().replace("\n", " "))
    button.press("Escape")
    expect(card).to_be_hidden()


def test_more_labels_and_captions_than_fit_are_folded(visit: Visit) -> None:
    visit.page.get_by_label("Add a label").fill("tree, house")
    visit.choose(photo())
    visit.wait_for_answer()
    expect(visit.page.locator("#predictions > li")).to_have_count(8)
    visit.page.get_by_role("button", name="Show all 10 labels").click()
    expect(visit.page.locator("#predictions > li")).to_have_count(10)
    visit.page.get_by_role("button", name="Show all 16 captions").click()
    expect(visit.page.locator("#captions ol > li:visible")).to_have_count(16)


def test_several_photos_have_an_answer_each(visit: Visit, server: httpx.Client) -> None:
    page = visit.page
    visit.choose(photo("one.png"), photo("two.png", turned=90))
    visit.wait_for_answer()
    page.locator("#photos").get_by_role("button", name="two.png", exact=True).click()
    visit.wait_for_answer()
    answer = classify(server, photo(turned=90)["buffer"], labels=STARTING)
    assert visit.predicted() == shares(answer)
    assert visit.asked == 2
    page.get_by_role("button", name="Remove two.png").click()
    expect(page.locator("#photos")).to_be_hidden()
    assert visit.predicted() == shares(classify(server, photo()["buffer"], labels=STARTING))


def test_an_answer_that_came_too_late_is_dropped(visit: Visit) -> None:
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    visit.page.route("**/v1/classify", hold_the_first)
    with visit.page.expect_request("**/v1/classify"):
        visit.choose(photo())
    with visit.page.expect_event("requestfailed"):
        visit.page.get_by_label("Add a label").fill("zebra,")
    visit.wait_for_answer()
    expect(visit.page.locator("#all-predictions")).to_have_text("Show all 9 labels")
    assert visit.asked == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("name", "label"),
    [("photo.png", "tree"), ("""it's "a", 50% $HOME;type=text.png""", "@it's <\"$(x)`")],
)
def test_the_copied_call_gives_the_same_answer(
    visit: Visit, tmp_path: Path, name: str, label: str
) -> None:
    page = visit.page
    page.get_by_role("button", name="Remove all").click()
    page.get_by_label("Add a label").fill(json.dumps(["cat", label]))
    visit.choose(photo(name))
    visit.wait_for_answer()
    page.get_by_label("Captions that vote").fill("5")
    page.get_by_role("radio", name="Mean").check()
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == page.locator("#curl").text_content()
    (tmp_path / name).write_bytes(photo()["buffer"])
    done = subprocess.run(  # noqa: S603 - what the page offers to run is what is tested
        ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, check=True, timeout=60
    )
    answer = json.loads(done.stdout)
    assert shares(answer) == visit.predicted()
    assert set(visit.predicted()) == {"cat", label}
    assert len(answer["results"][0]["captions"]) == 5
