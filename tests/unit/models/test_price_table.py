"""Prices: dated, overridable, and unknown is unknown."""

from __future__ import annotations

from datetime import date

import pytest

from optimas_core.errors import SpecError
from optimas_core.models._types import Price
from optimas_core.models.prices import PriceTable, price_of


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("openai/gpt-4o-mini", Price(0.15, 0.6)),
        ("gpt-4o-mini", Price(0.15, 0.6)),
        ("openai/gpt-4o-mini-2024-07-18", Price(0.15, 0.6)),
        ("openai/gpt-4o-2024-05-13", Price(5.0, 15.0)),
        ("anthropic/claude-haiku-4-5-20251001", Price(1.0, 5.0)),
        ("anthropic/claude-haiku-4-5@2023-06-01", Price(1.0, 5.0)),
        ("claude-sonnet-4-5", Price(3.0, 15.0)),
        ("local/smollm2-135m-instruct", Price(0.0, 0.0)),
    ],
)
def test_known_prices(name: str, price: Price) -> None:
    assert price_of(name) == price


@pytest.mark.parametrize("name", ["openai/gpt-99", "compatible/gpt-4o", "anthropic/gpt-4o", "openai/gpt-4o-audio", "mystery", "", "a/b/c"])
def test_an_unknown_price_is_not_reported_instead_of_free(name: str) -> None:
    assert price_of(name) is None


def test_an_override_wins_and_may_be_written_with_or_without_the_vendor() -> None:
    mine = Price(9.0, 9.0)
    assert price_of("openai/gpt-4o", {"openai/gpt-4o": mine}) == mine
    assert price_of("compatible/llama+adapter-7", {"compatible/llama": mine}) == mine
    assert price_of("compatible/llama", {"llama": mine}) == mine
    assert price_of("compatible/org/llama", {"org/llama": mine}) == mine


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_an_impossible_price_is_refused(bad: float) -> None:
    with pytest.raises(SpecError, match="my-model"):
        price_of("openai/gpt-4o", {"my-model": Price(bad, 1.0)})


def test_the_shipped_table_is_dated() -> None:
    table = PriceTable.shipped()
    assert date.fromisoformat(table.as_of) <= date(2026, 11, 21) and table.source
    assert all(price.usd_per_million_in > 0 for price in table.models.values())


def test_usd_are_per_million_tokens() -> None:
    assert Price(2.0, 8.0).usd(500_000, 250_000) == pytest.approx(3.0)
