"""Where a remote model is asked, and its key: read from the environment when needed, never kept, never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from optimas_core._redaction import is_secret
from optimas_core.errors import EnvironmentNotReady

# What is sent to a server that wants no key; the SDKs insist on some value.
NO_KEY = "none"


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """A base URL and the NAME of the environment variable that holds its key (None: the server wants none)."""

    base_url: str
    api_key_env: str | None

    def __post_init__(self) -> None:
        if self.api_key_env is not None:
            is_secret(self.api_key_env)
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            # The value itself is not repeated: what is wrongly given as an address may be a key.
            raise EnvironmentNotReady("A model's base_url is not an http or https address.", remedy="Write it as https://host:port/v1.")

    def __repr__(self) -> str:
        return f"Endpoint({self.host}, key from {self.api_key_env})"

    @property
    def host(self) -> str:
        """host:port for messages. A user name or password in the URL is left out."""
        parts = urlsplit(self.base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.hostname}:{port}"

    def key(self) -> str:
        """The key.

        Raises:
            EnvironmentNotReady: the variable is empty, or holds what no HTTP header can carry.
        """
        if self.api_key_env is None:
            return NO_KEY
        # Stripped: a line end out of a secret file would otherwise end up in an error about an illegal header.
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise EnvironmentNotReady(
                f"The environment variable {self.api_key_env} is not set; {self.host} needs a key.",
                remedy=f"Run: export {self.api_key_env}=…",
            )
        if not (key.isascii() and key.isprintable()):
            raise EnvironmentNotReady(
                f"The environment variable {self.api_key_env} holds characters that no key has.",
                remedy=f"Set {self.api_key_env} again, without quotes or line breaks.",
            )
        return key

    def secrets(self) -> tuple[str, ...]:
        """What must not appear in any text: the key, and a password in the URL."""
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return tuple(secret for secret in (key, urlsplit(self.base_url).password) if secret)
