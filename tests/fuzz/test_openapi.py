"""Requests made from the served OpenAPI document: no 5xx, and no answer that it does not name."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from tests.fuzz.conftest import KEY, LIMIT_S, fuzzing


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_documented(served: httpx.Client, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(str(served.base_url.join("/openapi.json")))
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    # A probe without parameters cannot be asked wrongly.
    operations = [it for it in operations if mode is GenerationMode.POSITIVE or it.body]
    assert operations
    for operation in operations:

        @given(operation.as_strategy(generation_mode=mode))
        @fuzzing
        def check(case: Case[Any]) -> None:
            # A schema cannot say what bytes are an image, so made-up ones may be refused.
            excluded: list[Any] = [positive_data_acceptance]
            if case.media_type != "application/json":
                # In a form every value is text: what is of the wrong type may be right there.
                excluded.append(negative_data_rejection)
            case.call_and_validate(
                headers={"Authorization": f"Bearer {KEY}"},
                excluded_checks=excluded,
                timeout=LIMIT_S,
            )

        check()
