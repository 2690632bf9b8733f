"""What looks like a secret, so that none leaves this machine in a code bundle.

By name      .env and .env.* (not .env.example, .sample, .template, .dist), *.pem *.key *.p12 *.pfx *.jks *.keystore *.kdbx, id_rsa* id_dsa*
             id_ecdsa* id_ed25519* (not *.pub), credentials and credentials.json, client_secret*.json, .netrc _netrc .pgpass .pypirc
             .git-credentials .htpasswd .dockercfg .dockerconfigjson, kubeconfig and *.kubeconfig, .kube/config, .docker/config.json,
             anything in .ssh and .gnupg
By content   a PRIVATE KEY block (also inside a service account's JSON), access key ids and secret keys of AWS, a kubeconfig's client key,
             keys that begin with sk- (OpenAI, Anthropic, …), tokens of GitHub, GitLab, Hugging Face, Google and Slack
By value     what an environment variable that is named like a key (`…_KEY`, `…_TOKEN`, `…_SECRET`, `…_PASSWORD`) holds on this machine

It finds the slips that happen, not a secret that someone hides.
"""

from __future__ import annotations

import re

from optimas_core._redaction import keys_of_environment

_NAMES = re.compile(
    r"\.env|\.env\.(?!(?:example|sample|template|dist)$).*"
    r"|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|kubeconfig)"
    r"|id_(?:rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*"
    r"|credentials(?:\.json)?|client_secret.*\.json"
    r"|[._]netrc|\.pgpass|\.pypirc|\.git-credentials|\.htpasswd|\.dockercfg|\.dockerconfigjson|kubeconfig",
    re.IGNORECASE,
)
_PATHS = re.compile(r"(?:.*/)?(?:\.(?:ssh|gnupg)/.*|\.kube/config|\.docker/config\.json)")

# What it is, a text without which it cannot be there (a search for that alone is a hundred times as fast), and its form. A key begins where
# no word goes on: in the middle of base64 text such letters mean nothing. AWS's own examples end in EXAMPLE.
_START = rb"(?<![\w-])"
_CONTENTS = (
    ("a private key", b"PRIVATE KEY", re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----")),
    ("an AWS access key id", b"AKIA", re.compile(_START + rb"AKIA(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}(?!\w)")),
    ("an AWS access key id", b"ASIA", re.compile(_START + rb"ASIA(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}(?!\w)")),
    (
        "an AWS secret key",
        b"",  # in any case of letters
        re.compile(rb"(?i)secret_?access_?key[\"']?\s{0,9}[:=]\s{0,9}[\"']?(?![\w+/]{30}EXAMPLEKEY)[\w+/]{40}(?![\w+/])"),
    ),
    ("a kubeconfig's client key", b"client-key-data", re.compile(rb"client-key-data:\s{0,9}[\w+/=]{16}")),
    ("an API key (sk-…)", b"sk-", re.compile(_START + rb"sk-(?=[\w-]{0,200}\d)(?=[\w-]{0,200}[A-Za-z])[\w-]{20}")),
    ("a GitHub token", b"gh", re.compile(_START + rb"gh[oprsu]_[A-Za-z0-9]{36}")),
    ("a GitHub token", b"github_pat_", re.compile(_START + rb"github_pat_\w{60}")),
    ("a GitLab token", b"glpat-", re.compile(_START + rb"glpat-[\w-]{20}")),
    ("a Hugging Face token", b"hf_", re.compile(_START + rb"hf_[A-Za-z0-9]{34}(?!\w)")),
    ("a Google API key", b"AIza", re.compile(_START + rb"AIza[\w-]{35}(?![\w-])")),
    ("a Slack token", b"xox", re.compile(_START + rb"xox[abeprs]-[\w-]{10}")),
)
# A shorter value (minioadmin) stands in programs for other reasons.
_MIN_VALUE_BYTES = 16


def secret_name(name: str) -> bool:
    """Whether a file of this relative name is one that keys are kept in."""
    return bool(_NAMES.fullmatch(name.rpartition("/")[2]) or _PATHS.fullmatch(name))


def secret_content(data: bytes) -> str | None:
    """What the bytes seem to hold and where ("an AWS access key id in line 3"), never the thing itself; None: nothing."""
    for what, mark, pattern in _CONTENTS:
        found = pattern.search(data) if mark in data else None
        if found:
            return f"{what} in line {_line(data, found.start())}"
    for variable, value in keys_of_environment().items():
        raw = value.encode("utf-8", "surrogateescape")
        at = data.find(raw) if len(raw) >= _MIN_VALUE_BYTES else -1
        if at >= 0:
            return f"the value of the environment variable {variable} in line {_line(data, at)}"
    return None


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1
