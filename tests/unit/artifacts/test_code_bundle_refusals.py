"""What does not get into a code bundle: secrets, too much, names and folders that cannot be sent; each in one sentence."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from optimas_core.artifacts import Bundle, pack_bundle
from optimas_core.artifacts._bundle_archive import MAX_BUNDLE_BYTES, MAX_BUNDLE_FILES
from optimas_core.errors import EnvironmentNotReady, SpecError

IN_PROJECT = ["app/__init__.py", "app/system.py", "data/train.jsonl", "run.yaml"]


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def names(bundle: Bundle) -> list[str]:
    return [name for name, _ in bundle.files]


def test_bad_folders_are_one_sentence(project: Path, git: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="nothing is no folder"):
        pack_bundle(tmp_path / "nothing")
    with pytest.raises(SpecError, match="is the project's own folder"):
        pack_bundle(project, exclude=[project / "app" / ".."])
    write(project, {".gitignore": b"*.yaml\n"})
    with pytest.raises(SpecError, match="holds run.yaml, but git ignores it. Take run.yaml out of .gitignore"):
        pack_bundle(project)
    (project / ".git" / "index").write_bytes(b"broken")
    with pytest.raises(EnvironmentNotReady, match="git cannot list the files of .*index"):
        pack_bundle(project)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentNotReady, match="no program git .* Install git"):
        pack_bundle(project)
    shutil.rmtree(project / ".git")
    assert "run.yaml" in names(pack_bundle(project))


SECRET_NAMES = [
    ".env", "app/.env", ".env.production", "server.pem", "tls.KEY", "store.p12", "id_rsa", "id_ed25519_work", "credentials",
    "credentials.json", "client_secret_1.json", ".netrc", ".pypirc", ".git-credentials", "kubeconfig", "lab.kubeconfig",
]  # fmt: skip
# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "a private key": "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE",
    "a private key ": '{"type": "service_account", "private_key": "-----BEGIN ' + 'PRIVATE KEY-----\\nMII"}',
    "an AWS access key id": "AWS_ACCESS_KEY_ID=AKIA" + "Z7Q2M4N6P8R0S1T3",
    "an AWS secret key": 'aws_secret_access_key = "' + "a1B2c3D4e5" * 4 + '"',
    "an AWS secret key ": '"SecretAccessKey": "' + "a1B2c3D4/+" * 4 + '"',
    "a kubeconfig's client key": "    client-key-data: " + "LS0tLS1CRUdJTiB" + "SU0EgUFJ",
    "an API key": "export OPENAI_API_KEY=sk-" + "proj-a1B2c3D4e5F6g7H8i9J0",
    "an API key ": "key='sk-" + "ant-api03-abcdefghij0123456789'",
    "a GitHub token": "https://ghp_" + "a1B2c3D4e5F6" * 3 + "@github.com",
    "a GitHub token ": "github_pat_" + "a1B2c3D4e5" * 7,
    "a GitLab token": "glpat-" + "a1B2c3D4e5" * 2,
    "a Hugging Face token": "token: hf_" + "aB" * 17,
    "a Google API key": "AIza" + "a1B2c3D" * 5,
    "a Slack token": "xoxb-" + "1234567890-abc",
}
HARMLESS = [
    "risk-adjusted-return-2024-by-quarter", "sk-learn-contrib-and-other-packages", "sk-" + "x" * 40, "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----", "hf_hub_download(repo_id)", "api_key=os.environ['OPENAI_API_KEY']", "task-0123456789abcdefghijklmnop",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_files_named_like_secrets_are_refused_in_git_and_outside(project: Path, git: Callable[..., None], name: str) -> None:
    write(project, {name: b"x"})
    for _ in range(2):
        with pytest.raises(SpecError) as caught:
            pack_bundle(project)
        assert f"looks like a secret: {name} (its name) in {project}" in str(caught.value) and "ignored in git" in caught.value.remedy
        shutil.rmtree(project / ".git", ignore_errors=True)


def test_an_ignored_secret_stays_behind_and_hinders_nothing(project: Path, git: Callable[..., None]) -> None:
    write(project, {".env": b"x", ".gitignore": b".env\n", ".env.example": b"KEY=\n", "id_rsa.pub": b"ssh-rsa", "keys.py": b""})
    assert names(pack_bundle(project)) == sorted([*IN_PROJECT, ".env.example", ".gitignore", "id_rsa.pub", "keys.py"])


@pytest.mark.parametrize("what", SECRETS)
def test_contents_that_look_like_secrets_are_refused_and_never_shown(project: Path, what: str) -> None:
    secret = SECRETS[what]
    write(project, {"app/settings.py": b"one\n\n" + secret.encode() + b"\n"})
    with pytest.raises(SpecError) as caught:
        pack_bundle(project)
    said = str(caught.value)
    assert f"app/settings.py ({what.strip()}" in said and "in line 3)" in said
    assert max(secret.split(), key=len)[-12:] not in said


def test_harmless_texts_travel(project: Path) -> None:
    write(project, {"notes.txt": "\n".join(HARMLESS).encode(), "noise.bin": hashlib.shake_256(b"seed").digest(1 << 20)})
    assert "notes.txt" in names(pack_bundle(project))


def test_a_value_of_this_machine_s_keys_is_refused_wherever_it_stands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_API_KEY", "plain-looking-words-only")
    monkeypatch.setenv("SHORT_TOKEN", "app.system")
    assert pack_bundle(project)
    write(project, {"data/rows.bin": b"\0\1\n" + b"plain-looking-words-only" + b"\0"})
    with pytest.raises(SpecError, match=r"data/rows.bin \(the value of the environment variable HOUSE_API_KEY in line 2\)") as caught:
        pack_bundle(project)
    assert "plain-looking" not in str(caught.value)


def test_many_secrets_are_one_sentence(project: Path) -> None:
    write(project, {f"k{index}.pem": b"" for index in range(9)})
    with pytest.raises(SpecError, match=r"k0.pem \(its name\), k1.pem \(its name\), k2.pem \(its name\) and 6 more in "):
        pack_bundle(project)


def test_a_link_does_not_hide_a_secret_s_name(project: Path) -> None:
    write(project, {"id_rsa": b"x"})
    (project / "harmless.txt").symlink_to("id_rsa")
    with pytest.raises(SpecError, match="harmless.txt .its name., id_rsa .its name."):
        pack_bundle(project)


def test_size_and_number_are_capped_before_anything_is_read(project: Path) -> None:
    with (project / "data" / "model.bin").open("wb") as file:
        file.truncate(5 << 40)  # a hole: nobody could read it
    with pytest.raises(SpecError, match=r"more than 32; its largest files: data/model.bin 5242880.0 MiB, .*s3://"):
        pack_bundle(project)
    with (project / "data" / "model.bin").open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES - 5 * 1024 + 1)  # five headers, the padding of three small files, and the end
    with pytest.raises(SpecError, match="32.0 MiB to send"):
        pack_bundle(project)
    os.truncate(project / "data" / "model.bin", MAX_BUNDLE_BYTES - 5 * 1024)
    assert len(pack_bundle(project).data) == MAX_BUNDLE_BYTES
    (project / "data" / "model.bin").unlink()
    (project / "many").mkdir()
    for index in range(MAX_BUNDLE_FILES + 1 - len(IN_PROJECT)):
        (project / "many" / f"{index}").touch()
    with pytest.raises(SpecError, match=f"more than {MAX_BUNDLE_FILES} files or folders .* in 'many'"):
        pack_bundle(project)
    (project / "many" / "0").unlink()
    assert len(pack_bundle(project).files) == MAX_BUNDLE_FILES


@pytest.mark.parametrize("name", [b"line\nbreak", b"not-utf-8-\xff", b"n" * 101, b"d" * 160 + b"/x"])
def test_names_that_cannot_travel_are_refused(project: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(project), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    with pytest.raises(SpecError, match="cannot travel"):
        pack_bundle(project)
