"""What an error says: no key in any form, no control character, no more than a screen; and the streams of the command line."""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from urllib.parse import quote

import pytest

from optimas_core._keyless import keyless_output
from optimas_core._redaction import is_secret, without_keys
from optimas_core.errors import FormatError, UserError

SECRET = "+/a0b1<c2d3e4&f5'g6h7i8=j9"
FORMS = {
    "plain": SECRET,
    "for a URL": quote(SECRET, safe=""),
    "for a path": quote(SECRET),
    "in small letters": re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
    "in JSON": json.dumps(SECRET)[1:-1],
    "in JSON of PHP": SECRET.replace("/", "\\/"),
    "in JSON of Go": SECRET.replace("<", "\\u003c").replace("&", "\\u0026"),
    "in HTML": html.escape(SECRET),
    "in HTML without quotes": html.escape(SECRET, quote=False),
    "in hexadecimal": SECRET.encode().hex(),
    "in capital hexadecimal": SECRET.encode().hex().upper(),
    **{f"base64 after {before!r}": base64.b64encode(f"{before}{SECRET}".encode()).decode() for before in ("", "u", "us", "user:")},
    "base64 for a URL": base64.urlsafe_b64encode(f"user:{SECRET}:x".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_found_in_every_form(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("MY_GATEWAY_KEY", SECRET)
    said = str(UserError(f"the server said {FORMS[form]}!", remedy=f"Use another than {FORMS[form]}."))
    assert said.count("[key]") == 2 and "the server said" in said and said.endswith(".")
    assert FORMS[form] not in said and SECRET[4:16] not in said


def test_a_variable_of_any_name_is_a_key_once_an_endpoint_takes_its_key_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETTERS_OF_THE_GATEWAY", SECRET)
    assert without_keys(SECRET) == SECRET
    is_secret("LETTERS_OF_THE_GATEWAY")
    assert without_keys(SECRET) == "[key]"


def test_a_short_value_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORT_KEY", "name")
    assert without_keys("the name of a thing") == "the name of a thing"


def test_control_characters_are_spelled_out() -> None:
    text = str(FormatError("a\x1b[2J\x07b\x00c\u202ed\u2028e\ud800f\ng"))
    assert text == "a\\x1b[2J\\x07b\\x00c\\u202ed\\u2028e\\ud800f\ng" and text.encode()


def test_a_text_without_end_is_cut_in_its_middle_and_no_key_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_GATEWAY_KEY", SECRET)
    text = str(UserError("begin " + "x" * 985 + SECRET + "y" * 100_000 + " end"))
    assert len(text) <= 2000 and text.startswith("begin ") and text.endswith(" end") and SECRET[:6] not in text


def test_what_the_command_line_writes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MY_GATEWAY_KEY", SECRET)
    plain = sys.stdout, sys.stderr
    with keyless_output():
        print("out", SECRET, flush=True)
        sys.stderr.writelines(["err ", SECRET, "\n"])
        assert not sys.stdout.isatty() and sys.stdout.encoding == plain[0].encoding
    assert (sys.stdout, sys.stderr) == plain
    assert tuple(capsys.readouterr()) == ("out [key]\n", "err [key]\n")
