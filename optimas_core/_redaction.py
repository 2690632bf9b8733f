"""Keys are kept out of every text: what an error says, what a run writes down, what a traceback prints.

Which values are keys is told by names: environment variables that are called like one (`…_KEY`, `…_TOKEN`, `…_SECRET`,
`…_PASSWORD`), and those that a model's endpoint was told to take its key from. A key is found as it is, escaped for a URL, for
HTML or for JSON, in hexadecimal and inside base64; and what has the look of a key goes too, whosever it is.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from urllib.parse import quote

SHOWN = "[key]"
# A shorter value is a switch or a number, and taking it out of every text would garble them.
_MIN_CHARS = 8
_SECRET_NAME = re.compile(r"(?i)(?:KEY|KEY_?ID|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)$")
_SECRET_SHAPES = re.compile(
    r"(?i)\bsk-[\w*.-]{4,}"
    r"|\bbearer\s+[^\s\"',]+"
    r"|authorization[\"']?\s*[:=]\s*[\"']?(?:[\w-]+\s+)?[^\s\"',]+"
    r"|x-api-key[\"']?\s*[:=]\s*[\"']?[^\s\"',]+"
    r"|X-Amz-(?:Credential|Security-Token|Signature)=[^&\s\"']+"
)
# Go's JSON escapes what HTML would.
_GO_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}
_ESCAPE = re.compile("%[0-9A-F]{2}")
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@\"']+(?=@)")
# Names of variables, never their values. It only grows: a name once given as a key's is one for the whole process.
_NAMED: set[str] = set()


def is_secret(variable: str) -> None:
    """From now on the value of this environment variable is a key, whatever the variable is called."""
    _NAMED.add(variable)


def without_keys(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` without the given secrets, the environment's keys and whatever looks like a key."""
    for secret in sorted({*secrets, *keys_of_environment().values()}, key=len, reverse=True):
        for form in _forms(secret):
            text = text.replace(form, SHOWN)
    return _USER_IN_URL.sub(SHOWN, _SECRET_SHAPES.sub(SHOWN, text))


def keys_of_environment() -> dict[str, str]:
    """The environment's variables that hold keys, with their values."""
    found = {name: value.strip() for name, value in os.environ.items() if name in _NAMED or _SECRET_NAME.search(name)}
    return {name: value for name, value in found.items() if len(value) >= _MIN_CHARS}


def _forms(secret: str) -> list[str]:
    """The ways a server, a URL or a header may repeat it, the longest first."""
    if not secret:
        return []
    raw = secret.encode("utf-8", "surrogateescape")
    escaped = {quote(raw, safe=""), quote(raw, safe="/")}
    escaped |= {_ESCAPE.sub(lambda found: found[0].lower(), form) for form in escaped}
    in_json = json.dumps(secret)[1:-1]
    forms = {secret, in_json, in_json.replace("/", "\\/"), in_json.translate(_GO_ESCAPES), repr(secret)[1:-1], *escaped}
    forms |= {html.escape(secret, quote=False), html.escape(secret)}
    if len(raw) >= _MIN_CHARS:
        forms |= {raw.hex(), raw.hex().upper()}
        for before in range(3):  # what stands in front of it ("user:") shifts its bits
            code = base64.b64encode(bytes(before) + raw).decode()
            inner = code[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return sorted(forms, key=len, reverse=True)
