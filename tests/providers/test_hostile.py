"""What odd providers and odd callers must not achieve, each found by an attack: one row or test each."""

# a table reads best with its cases side by side

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from engine import InvalidCall, UsageError, iModel, match_endpoint
from engine.accounts import Lanes
from engine.config import EngineConfig
from engine.endpoints import EndpointConfig
from engine.providers.embeddings import GENERIC, Embeddings
from engine.providers.firecrawl import FirecrawlScrape
from engine.providers.wire import Usage
from engine.transports.answers import counted
from engine.transports.target import Target

EMBED = Embeddings(GENERIC)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(0, 0, 0), None),
        (Usage(0, 0), None),
        (Usage(total_tokens=0), None),
        (Usage(0, 1), (0, 1)),
        (Usage(1, 0), (1, 0)),
    ],
)
def test_a_usage_of_nothing_at_all_gives_nothing_back(usage: Usage, expected: tuple[int, int] | None) -> None:
    assert counted(usage) == expected


@pytest.mark.parametrize(
    ("indices", "vectors"),
    [
        ([1, 0], ["b", "a"]),
        ([1], ["", "a"]),
        ([0, 2], ["a", "", "b"]),
        ([0, 0], ["a", "b"]),
        ([None, None], ["a", "b"]),
        ([0, 10**9], ["a", "b"]),
    ],
)
def test_a_vector_stands_where_its_input_stood(indices: list[int | None], vectors: list[str]) -> None:
    """An input without a vector has an empty one; nonsense as an index moves nothing."""
    numbers = {"a": [1.0], "b": [2.0], "": []}
    data = [{"index": index, "embedding": numbers[name]} for index, name in zip(indices, "ab", strict=False)]
    view = EMBED.view({"data": data})
    assert [list(vector) for vector in view.embeddings] == [numbers[name] for name in vectors]


def test_base64_of_an_odd_length_is_no_vector() -> None:
    whole = base64.b64encode(struct.pack("<2f", 1.0, 2.0)).decode()
    broken = base64.b64encode(b"12345").decode()
    view = EMBED.view({"data": [{"index": 0, "embedding": whole}, {"index": 1, "embedding": broken}]})
    assert [list(vector) for vector in view.embeddings] == [[1.0, 2.0], []]


@pytest.mark.parametrize("success", [False, "false", 0, "no", [], {}])
def test_a_success_that_is_not_true_is_none(success: object) -> None:
    body = {"success": success, "data": {"markdown": "x"}}
    assert FirecrawlScrape().error_of(body, failed=False) is not None


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "HOST", "Connection"])
def test_headers_that_frame_a_request_cannot_be_set(name: str) -> None:
    with pytest.raises(UsageError, match=name.lower()):
        Target(url="http://127.0.0.1:1/", headers={name: "3"}, format=EMBED)


@pytest.mark.parametrize(
    "name",
    ["api_key", "openai_api_key", "x-api-key", "X-API-Key", "Authorization", "bearer", "access_token", "extra_headers"],
)
def test_a_key_among_the_arguments_is_never_sent(name: str) -> None:
    model = iModel(model="m", api_key="k")
    call = model.create_api_calling(messages=[{"role": "user", "content": "x"}], **{name: "sk-secret"})
    with pytest.raises(InvalidCall, match="never sent") as caught:
        _ = call.request
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("made", [{"max_tokens": "\ud800"}, {"user": "\ud800"}, {"tools": [{"\ud800": 1}]}])
def test_half_a_character_is_refused_like_any_other_argument(made: dict[str, Any]) -> None:
    call = iModel(model="m").create_api_calling(messages=[{"role": "user", "content": "x"}], **made)
    with pytest.raises(InvalidCall, match="surrogate"):
        _ = call.request


def test_a_key_in_an_endpoint_stays_hidden_whoever_shows_it() -> None:
    config = EndpointConfig(api_key="sk-secret-1", default_headers={"authorization": "sk-secret-2"})  # type: ignore[arg-type]
    endpoint = match_endpoint("openai")(config)
    shown = f"{config!r} {config.__rich_repr__()} {endpoint!r} {endpoint.spec!r} {endpoint.spec.__rich_repr__()}"
    assert "sk-secret" not in shown
    with pytest.raises(AttributeError):
        config.api_key = "sk-secret-3"  # type: ignore[misc,assignment]  # that is what is tested


@pytest.mark.parametrize("name", ["limit_requests", "rpm", "timeout_s", "concurency_limit"])
def test_a_limit_given_to_an_endpoint_is_not_sent_instead_of_kept(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        iModel(endpoint=match_endpoint("openai")(model="m", **{name: 5}))


def test_models_of_one_key_share_what_their_provider_publishes() -> None:
    """NVIDIA's 40 a minute are the account's, whichever endpoint is used; another key has its own."""
    lanes = Lanes(EngineConfig())

    def quotas(endpoint: str, key: str, **limits: int) -> list[tuple[int, int]]:
        model = iModel(provider="nvidia_nim", endpoint=endpoint, api_key=key, **limits)
        return [(spec.quota_id, spec.limit) for spec in lanes.open(model.lane, model.account())[0].quotas]

    chat, embed, other = quotas("chat", "a"), quotas("embed", "a"), quotas("chat", "b")
    assert chat == embed
    assert chat[0][1] == other[0][1] == 40
    assert chat != other
    assert [limit for _, limit in quotas("chat", "a", limit_requests=100)] == [100]
    assert quotas("chat", "a", limit_tokens=5_000)[1:] == chat
