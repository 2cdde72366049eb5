"""Exa's SDK and our client at its search. Its errors are `ValueError`s with the status in their text."""

from __future__ import annotations

from typing import Any

import pytest
from two_sides import FAILING, KEY, LIMITED, Told, alone, both, said_by

exa_py = pytest.importorskip("exa_py", reason="needs the extra test-sdks")

PLAIN: dict[str, Any] = {"query": "schedulers", "num_results": 3, "type": "auto"}
CONTENTS = {"text": {"max_characters": 60}, "highlights": True}


def searching(arguments: dict[str, Any], key: str = KEY) -> Any:
    def search(address: str, name: str) -> Told:
        sdk = exa_py.Exa(key, base_url=address)
        sdk.headers["x-penstock-call"] = name
        found = sdk.search(**arguments)
        results = [
            (result.url, result.title, result.text or next(iter(result.highlights or []), None), result.score)
            for result in found.results
        ]
        return Told(results=results)

    return search


@pytest.mark.parametrize("contents", [None, CONTENTS, {"highlights": True}], ids=["bare", "text", "highlights"])
async def test_both_find_the_same(contents: dict[str, Any] | None) -> None:
    theirs = {**PLAIN, "contents": contents or False}
    ours = {**PLAIN, **({"contents": contents} if contents else {})}
    call, told = await both("exa", "search", ours, searching(theirs))
    assert len(told.results) == 3
    assert said_by(call).results == told.results


async def test_a_wrong_key_is_the_sdks_own_error() -> None:
    with pytest.raises(ValueError, match="status code 401"):
        await alone("exa", searching(PLAIN, "wrong"), LIMITED)


async def test_a_limit_is_the_sdks_own_error() -> None:
    def twice(address: str, name: str) -> None:
        searching(PLAIN)(address, name)
        searching(PLAIN)(address, name)

    with pytest.raises(ValueError, match="status code 429"):
        await alone("exa", twice, LIMITED)


async def test_an_error_in_an_answer_is_an_error_to_both() -> None:
    def search(address: str, name: str) -> None:
        with pytest.raises(KeyError, match="results"):
            searching(PLAIN)(address, name)

    call, _ = await both("exa", "search", PLAIN, search, FAILING)
    assert call.status == "failed"
