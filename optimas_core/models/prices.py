"""What a model's tokens cost: a dated table that a user can override. An unknown price is None, never 0."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from optimas_core.errors import SpecError
from optimas_core.models._types import Price

# "-2025-04-14" (OpenAI) or "-20250929" (Anthropic): a snapshot costs what its family costs unless listed by itself.
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
# What a client adds to its id to tell variants of one model apart (an adapter, an API version).
_VARIANT = re.compile(r"[+@][^/]*$")


@dataclass(frozen=True, slots=True)
class PriceTable:
    """USD per million tokens by client id ("openai/gpt-4o"), as known on `as_of` (YYYY-MM-DD)."""

    as_of: str
    source: str
    models: Mapping[str, Price]

    @classmethod
    def shipped(cls) -> PriceTable:
        """The table that comes with the package: list prices, to be checked by whoever pays."""
        data = json.loads(files(__package__).joinpath("prices.json").read_text(encoding="utf-8"))
        models = {name: Price(float(cost[0]), float(cost[1])) for name, cost in data["models"].items()}
        return cls(as_of=data["as_of"], source=data["source"], models=models)

    def overridden(self, overrides: Mapping[str, Price]) -> PriceTable:
        """This table with the user's prices before the listed ones.

        Raises:
            SpecError: a price that is negative or not finite.
        """
        for name, price in overrides.items():
            for value in (price.usd_per_million_in, price.usd_per_million_out):
                if not (math.isfinite(value) and value >= 0):
                    raise SpecError(f"The price of {name} is {value}.", remedy="Give USD per million tokens, 0 or more.")
        return PriceTable(self.as_of, self.source, {**self.models, **overrides})

    def price_of(self, name: str) -> Price | None:
        """The price of a client id or of a bare model name; None where it is not known.

        Only "openai/…" and "anthropic/…" are the vendors' own services. The same model name at another server
        ("compatible/gpt-4o") has its own price, which only an override can tell. "local/…" runs on this machine and has
        no price per token.
        """
        for candidate in _candidates(name):
            if candidate in self.models:
                return self.models[candidate]
        return Price(0.0, 0.0) if name.startswith("local/") else None


def price_of(name: str, overrides: Mapping[str, Price] | None = None) -> Price | None:
    """The price of a client id ("openai/gpt-4o") or model name ("gpt-4o") by the shipped table and the overrides."""
    return PriceTable.shipped().overridden(overrides or {}).price_of(name)


def _candidates(name: str) -> list[str]:
    """Keys to look under, the most particular first.

    An override may be written with the bare model name, so that stands behind the full id. A bare name is looked for
    among the vendors' models, a name with a vendor never at another vendor.
    """
    vendor, slash, model = name.partition("/")
    if not slash:
        vendor, model = "", name
    forms = list(dict.fromkeys((model, _VARIANT.sub("", model))))
    forms += [_SNAPSHOT.sub("", form) for form in forms]
    vendors = [vendor] if slash else ["openai", "anthropic"]
    candidates: list[str] = []
    for form in dict.fromkeys(forms):
        candidates += [f"{one}/{form}" for one in vendors] + [form]
    return candidates
