"""`Caller`: which methods and paths a request may have. What cannot stand in one is refused before anything is sent."""

from __future__ import annotations

import pytest

from engine.accounts import LaneDescription
from engine.clients.caller import Caller
from engine.errors import InvalidCall
from engine.providers.lookup import resolve

CALLER = Caller(resolve("openai", base_url="https://host.example/v1"), LaneDescription("lane"))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_request_of_any_method_whose_answer_has_a_body(method: str) -> None:
    call = CALLER.call(method, "/v1/models?a=b%20c")
    assert call.place == (method, "/v1/models?a=b%20c")


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "OPTIONS", "get", "", "GET /x HTTP/1.1\r\nx: y"])
def test_any_other_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidCall, match="nothing was sent"):
        CALLER.call(method, "/v1/models")


@pytest.mark.parametrize("path", ["", "models", "/a b", "/a\r\nx: y", "/a#b", "/é"])
def test_a_path_that_cannot_stand_in_a_request_is_refused(path: str) -> None:
    with pytest.raises(InvalidCall, match="nothing was sent"):
        CALLER.call("GET", path)
