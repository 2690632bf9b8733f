"""What the image sources promise, as far as it can be read: contexts, users, labels, secrets, names; built ones are tested on a cluster."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ("runtime", "train", "sandbox")
LABELS = ("title", "description", "licenses", "version", "revision", "created")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "images"))
    spec = importlib.util.spec_from_file_location(f"images_{name}", ROOT / "images" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions(image: str) -> list[str]:
    text = (ROOT / "images" / image / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_ends_as_a_numeric_user_that_is_not_root(image: str) -> None:
    users = [line.split()[1] for line in instructions(image) if line.startswith("USER ")]
    user, group = users[-1].split(":")
    assert int(user) >= 1000 and int(group) >= 1000


@pytest.mark.parametrize("image", IMAGES)
def test_bases_are_arguments_and_labels_complete(image: str) -> None:
    lines = instructions(image)
    for line in lines:
        if line.startswith("FROM "):
            assert re.fullmatch(r"FROM \$\{(PYTHON_BASE|RUNTIME_IMAGE)\}( AS \w+)?", line)
    labels = " ".join(line for line in lines if line.startswith("LABEL "))
    assert all(f"org.opencontainers.image.{label}=" in labels for label in LABELS)
    assert f'title="optimas-{image}"' in labels


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_comes_from_outside_the_context_and_no_host_is_named(image: str) -> None:
    for line in instructions(image):
        assert "://" not in line and not line.startswith("ADD ")
        if line.startswith(("COPY ", "RUN ")):
            assert ".." not in line
        if "pip install" in line and "--no-index" not in line:
            assert "constraints.txt" in line and "id=pip_conf" in line and "--no-cache-dir" in line


def test_the_runtime_installs_no_torch_and_the_train_image_builds_on_it() -> None:
    runtime = " ".join(instructions("runtime"))
    assert "[train" not in runtime and not re.search(r"pip install[^&]*torch", runtime)
    train = instructions("train")
    assert "FROM ${RUNTIME_IMAGE}" in train
    assert any("optimas-kube[train,datasets]" in line for line in train)
    assert not any("NVIDIA_VISIBLE_DEVICES" in line for line in train if line.startswith("ENV"))


def test_the_context_is_an_allow_list_that_lets_no_key_in() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        word.rstrip("/")
        for line in instructions("runtime")
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert allowed == copied
    again = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for name in (".env", ".env.local", "server.key", "ca.pem", "x.pyc", "__pycache__"):
        assert any(fnmatch.fnmatch(name, rule) for rule in again), name


def test_bases_are_named_in_one_file_by_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    bases = script("bases", monkeypatch)
    found = bases.read_bases(bases.BASES_FILE.read_text(encoding="utf-8"))
    declared = {line.split()[1].partition("=")[0] for image in IMAGES for line in instructions(image) if line.startswith("ARG ")}
    assert set(found) == declared - {"VERSION", "REVISION", "CREATED", "RUNTIME_IMAGE"}
    assert all(re.fullmatch(r"[a-z0-9./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", reference) for reference in found.values())
    assert bases.chosen_bases("A=x:1\n", {"A": "y:2", "B": "z"}) == {"A": "y:2"}
    with pytest.raises(ValueError, match="line 2"):
        bases.read_bases("A=x:1\nB\n")


def test_pinning_writes_what_was_looked_up_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bases = script("bases", monkeypatch)
    digest = "sha256:" + "a" * 64
    pinned = bases.with_digests("# why\nA=x:1\nB=y:2\n", {"A": digest})
    assert pinned == f"# why\nA=x:1@{digest}\nB=y:2\n"
    newer = "sha256:" + "b" * 64
    assert bases.with_digests(pinned, {"A": newer}) == f"# why\nA=x:1@{newer}\nB=y:2\n"
    with pytest.raises(ValueError, match="no digest"):
        bases.with_digests("A=x:1\n", {"A": "latest"})
    # No tool at all, as without a registry: the file stays as it is.
    file = tmp_path / "bases.env"
    file.write_text("A=x:1\n", encoding="utf-8")
    pin = script("pin", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="bases.env is as it was"):
        pin.main(file)
    assert file.read_text(encoding="utf-8") == "A=x:1\n"


def test_a_build_gets_bases_labels_and_secrets_as_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = script("build", monkeypatch)
    for name in ("OPTIMAS_IMAGE", "OPTIMAS_TRAIN_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    given = {"bases": {"PYTHON_BASE": "python:3"}, "labels": {"REVISION": "abc"}, "secrets": {"pip_conf": tmp_path / "pip.conf"}}
    command = build.build_command("podman", "runtime", **given, flags=["--network", "host"])
    assert command[:4] == ["podman", "build", "-t", f"optimas-runtime:{build.version()}"]
    assert "PYTHON_BASE=python:3" in command and "REVISION=abc" in command and f"id=pip_conf,src={tmp_path / 'pip.conf'}" in command
    assert command[-3:] == ["--network", "host", "."] and not any("RUNTIME_IMAGE" in part for part in command)
    train = build.build_command("podman", "train", **given)
    assert f"RUNTIME_IMAGE=localhost/optimas-runtime:{build.version()}" in train
    assert f"RUNTIME_IMAGE=optimas-runtime:{build.version()}" in build.build_command("docker", "train", **given)


def test_the_builders_pip_settings_reach_the_build_without_what_only_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    build = script("build", monkeypatch)
    listed = "global.index-url='https://user:word@index.invalid/simple'\n:env:.find-links='/opt/wheels'\nglobal.cert='/etc/ca.crt'\n"
    text, certificates = build.pip_settings(listed)
    assert certificates == "/etc/ca.crt"
    assert text == "[global]\nindex-url = https://user:word@index.invalid/simple\ncert = /run/secrets/ca_bundle\n"
    assert build.pip_settings("") == ("[global]\n", None)


def test_image_names_are_those_that_the_components_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kfp")
    for name in ("OPTIMAS_IMAGE", "OPTIMAS_TRAIN_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    build = script("build", monkeypatch)
    code = "import components.images as images; print(images.RUNTIME, images.TRAIN)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert told == [build.image_name("runtime"), build.image_name("train")]
