"""Who is one account: whoever would send the same bytes and read the answers alike. Its identity holds no key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.accounts import Account
from engine.providers.aixplain import AIXPLAIN
from engine.providers.documents import DOCUMENTS
from engine.providers.lookup import resolve
from engine.secret import Secret

KEY = "sk-sentinel-0123456789abcdef"
SPEC = resolve("openai", base_url="https://host.example/v1")


def account(key: str | None = KEY, **changes: Any) -> Account:
    return Account(msgspec.structs.replace(SPEC, **changes), Secret(key) if key else None)


def test_the_same_is_one_account() -> None:
    assert account().identity == account().identity
    assert KEY not in repr(account().identity)
    assert KEY not in repr(account())


@pytest.mark.parametrize(
    "other",
    [
        account(key="sk-another-0123456789abcdef"),
        account(key=None),
        account(url="https://host.example/v2"),
        account(provider="groq"),
        account(auth="token"),
        account(headers=(("x-team", "a"),)),
        account(format=DOCUMENTS),
        account(format=AIXPLAIN),
    ],
    ids=["key", "no key", "address", "provider", "way to send the key", "headers", "documents", "another format"],
)
def test_whoever_differs_is_another(other: Account) -> None:
    assert other.identity != account().identity


def test_the_polls_of_an_origin_are_named_by_it() -> None:
    assert account(url="https://host.example:8443/a/b?c=d").origin == "openai https://host.example:8443"
