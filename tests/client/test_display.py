"""A result as text and as HTML."""

from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.client import Caption, CaptionsFound, Classification, ImageResult, Prediction
from tests.client.answers import CLASSIFICATION, RESULT


@pytest.fixture
def answer() -> Classification:
    return TypeAdapter(Classification).validate_python(CLASSIFICATION)


@pytest.fixture
def result(answer: Classification) -> ImageResult:
    return answer[0]


class Reader(HTMLParser):
    """The tags, attributes and words of a page; every tag must be closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, set[str]] = {}
        self.words: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def close(self) -> None:
        super().close()
        assert not self._open


def read(shown: Any) -> Reader:
    reader = Reader()
    reader.feed(shown._repr_html_())
    reader.close()
    return reader


def test_the_text_of_a_result(result: ImageResult) -> None:
    assert str(result).splitlines() == [
        "cat.jpg",
        "  cat   75.0%  ███████████████       image 50.0%, captions 87.5%",
        "  dog   25.0%  █████                 image 50.0%, captions 12.5%",
        "  weights: image 0.38 (confidence 0.25), captions 0.62 (confidence 0.50)",
        "   0.250  a cat asleep",
    ]


def test_several_results_and_warnings_stand_below_each_other(answer: Classification) -> None:
    shown = replace(answer, results=answer.results * 2, warnings=("label 1 is long",))
    assert len(shown) == 2
    assert [part.best.label for part in shown] == ["cat", "cat"]
    one, other, warning = str(shown).split("\n\n")
    assert one == other == str(answer)
    assert warning == "warning: label 1 is long"
    assert "warning: label 1 is long" in read(shown).words


def test_without_captions_there_is_a_dash(result: ImageResult) -> None:
    alone = replace(
        result,
        predictions=tuple(replace(p, text_probability=None) for p in result.predictions),
        captions=(),
    )
    assert "captions -" in str(alone)
    assert read(alone).words.count("-") == 2


def test_of_many_labels_the_first_are_shown(result: ImageResult) -> None:
    many = replace(
        result,
        predictions=tuple(Prediction(f"label {i}", 0.01, 0.01, 0.01) for i in range(100)),
        captions=result.captions * 12,
    )
    for shown in (str(many), "".join(read(many).words)):
        assert "label 9" in shown
        assert "label 10" not in shown
        assert "… 90 more labels" in shown
        assert "… 2 more captions" in shown


def test_the_html_stands_alone_and_has_a_bar_a_label(result: ImageResult) -> None:
    reader = read(result)
    assert set(reader.tags) <= {
        *("div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"),
    }
    assert set(reader.attributes) <= {"style", "scope"}
    assert not any("url(" in style for style in reader.attributes["style"])
    widths = [s for s in reader.attributes["style"] if s.endswith("%") and "width:" in s]
    assert sorted(style.rpartition("width:")[2] for style in widths) == ["25.0%", "75.0%"]
    for words in ("cat.jpg", "cat", "75.0%", "50.0%", "87.5%", "a cat asleep", "0.250"):
        assert words in reader.words


@given(st.text(min_size=1))
def test_what_came_from_outside_is_escaped(text: str) -> None:
    text = f"<script>&{text}"
    result = TypeAdapter(ImageResult).validate_python(RESULT)
    odd = replace(
        result,
        filename=text,
        predictions=(Prediction(text, 1.0, 1.0, 1.0),),
        captions=(Caption(1, text, 0.5),),
    )
    found = CaptionsFound("mini", "default", odd.captions)
    for shown in (odd, found):
        assert "script" not in read(shown).tags
        assert "<script" not in shown._repr_html_()


def test_found_captions_are_a_list_of_lines() -> None:
    found = CaptionsFound("mini", "default", (Caption(1, "a cat", 0.5), Caption(2, "a dog", -0.25)))
    assert str(found).splitlines() == [" 0.500  a cat", "-0.250  a dog"]
    assert [caption.id for caption in found] == [1, 2]
    assert found[1].text == "a dog"
    assert len(found) == 2
    assert "a dog" in read(found).words


def test_a_result_turns_back_into_the_apis_json(answer: Classification) -> None:
    adapter = TypeAdapter(Classification)
    assert adapter.dump_python(answer, mode="json") == CLASSIFICATION
    assert asdict(answer[0])["modalities"] == RESULT["modalities"]
