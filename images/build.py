"""Build the images with podman, buildah or docker: `python3 images/build.py [runtime train sandbox] [--flags "--network host"]`.

Standard library only, so that any machine with Python can. The builder's own pip settings (index, certificate) reach the build as
secrets: they are in no layer, and no index is named here.
"""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bases import BASES_FILE, chosen_bases

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("runtime", "train", "sandbox")
BUILDERS = ("podman", "buildah", "docker")
_CA_TARGET = "/run/secrets/ca_bundle"
_PASSED_ON = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")


def version() -> str:
    """The version of the sources, read without importing the package."""
    text = (ROOT / "optimas_core" / "_version.py").read_text(encoding="utf-8")
    return text.split('__version__ = "')[1].split('"')[0]


def image_name(image: str) -> str:
    """What pods name (components/images.py has the same): the environment's, or optimas-<image>:<version>."""
    named = {"runtime": "OPTIMAS_IMAGE", "train": "OPTIMAS_TRAIN_IMAGE", "sandbox": "OPTIMAS_SANDBOX_IMAGE"}[image]
    return os.environ.get(named) or f"optimas-{image}:{version()}"


def build_command(
    builder: str, image: str, *, bases: Mapping[str, str], labels: Mapping[str, str], secrets: Mapping[str, Path], flags: Sequence[str] = ()
) -> list[str]:
    """The command that builds one image, to be run in the repository's root."""
    arguments = {**bases, **labels, "VERSION": version(), "RUNTIME_IMAGE": _local(builder, image_name("runtime"))}
    wanted = _declared(image)
    command = [builder, "build", "-t", image_name(image), "-f", f"images/{image}/Containerfile"]
    if builder != "docker":
        command += ["--format", "docker"]  # an archive that every runtime reads
    for name, value in sorted(arguments.items()):
        if name in wanted:
            command += ["--build-arg", f"{name}={value}"]
    for name, path in sorted(secrets.items()):
        command += ["--secret", f"id={name},src={path}"]
    return [*command, *flags, "."]


def pip_settings(listed: str) -> tuple[str, str | None]:
    """From `pip config list`: a pip.conf for the build, and this machine's file of certificates, if it names one.

    What only this machine has (folders of wheels, caches) is left out.
    """
    lines, certificates = [], None
    for line in listed.splitlines():
        key, found, value = line.partition("=")
        option = key.rpartition(".")[2]
        if not found:
            continue
        text = str(ast.literal_eval(value))
        if option == "cert":
            certificates = text
        elif option in _PASSED_ON:
            lines.append(f"{option} = {' '.join(text.split())}")
    if certificates is not None:
        lines.append(f"cert = {_CA_TARGET}")
    return "[global]\n" + "".join(f"{line}\n" for line in lines), certificates


def write_secrets(folder: Path) -> dict[str, Path]:
    """pip's settings of this machine as files for the build; empty where pip says nothing."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    configuration, certificates = pip_settings(listed.stdout if listed.returncode == 0 else "")
    secrets = {"pip_conf": folder / "pip.conf"}
    secrets["pip_conf"].write_text(configuration, encoding="utf-8")
    if certificates is not None:
        secrets["ca_bundle"] = Path(certificates)
    return secrets


def source_labels() -> dict[str, str]:
    """Commit and its time; empty texts where the sources are no checkout."""

    def git(*arguments: str) -> str:
        if not (ROOT / ".git").exists() or shutil.which("git") is None:
            return ""
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = "-changed" if git("status", "--porcelain", "--untracked-files=no") else ""
    revision = git("rev-parse", "HEAD")
    return {"REVISION": revision + (changed if revision else ""), "CREATED": git("log", "-1", "--format=%cI")}


def find_builder(wanted: str | None) -> str:
    """Raises: SystemExit: none of them is installed."""
    for name in (wanted,) if wanted else BUILDERS:
        if name and shutil.which(name):
            return name
    raise SystemExit(f"images: none of {', '.join((wanted,) if wanted else BUILDERS)} is installed; install one of {', '.join(BUILDERS)}.")


def _declared(image: str) -> set[str]:
    lines = (ROOT / "images" / image / "Containerfile").read_text(encoding="utf-8").splitlines()
    return {line.split()[1].partition("=")[0] for line in lines if line.startswith("ARG ")}


def _local(builder: str, name: str) -> str:
    """podman and buildah look for a name without a registry elsewhere, unless it says that it is here."""
    return name if builder == "docker" or "/" in name else f"localhost/{name}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="images/build.py", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"{', '.join(IMAGES)}; default: all")
    parser.add_argument("--builder", choices=BUILDERS, help="default: the first that is installed")
    parser.add_argument("--flags", default="", help="further flags of the builder, in quotes")
    options = parser.parse_args(arguments)
    unknown = set(options.images) - set(IMAGES)
    if unknown:
        parser.error(f"no image {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")
    builder = find_builder(options.builder)
    bases = chosen_bases(BASES_FILE.read_text(encoding="utf-8"), os.environ)
    with tempfile.TemporaryDirectory(prefix="optimas-images-") as folder:
        secrets = write_secrets(Path(folder))
        for image in [name for name in IMAGES if name in (options.images or IMAGES)]:
            command = build_command(builder, image, bases=bases, labels=source_labels(), secrets=secrets, flags=shlex.split(options.flags))
            print(f"images: {image_name(image)} with {builder}", flush=True)
            finished = subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=False)
            if finished.returncode != 0:
                raise SystemExit(f"images: {image_name(image)} was not built (exit code {finished.returncode}).")


if __name__ == "__main__":
    main(sys.argv[1:])
