"""What every test of this folder has: no second attempt, which would only be the same again and take its time."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.again.refusal", lambda *_, **__: "attempts")
