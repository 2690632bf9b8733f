"""Write the digest behind each base image's tag into bases.env: `python3 images/pin.py`. Needs a registry; never invents a digest."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from bases import BASES_FILE, read_bases, tag_of, with_digests

# What each tool is asked, and where in its answer the digest of the (multi-platform) image stands.
_LOOKUPS = {
    "skopeo": (["skopeo", "inspect", "--format", "{{.Digest}}", "docker://{image}"],),
    "docker": (["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", "{image}"],),
    "podman": (["podman", "pull", "-q", "{image}"], ["podman", "image", "inspect", "--format", "{{.Digest}}", "{image}"]),
    "buildah": (
        ["buildah", "pull", "-q", "{image}"],
        ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", "{image}"],
    ),
}


def look_up(image: str) -> str:
    """The digest that the registry has for the tag, asked with the first tool that is installed and answers.

    Raises:
        SystemExit: none does.
    """
    said = []
    for tool, commands in _LOOKUPS.items():
        if shutil.which(tool) is None:
            continue
        answer = None
        for command in commands:
            answer = subprocess.run(
                [part.replace("{image}", image) for part in command], capture_output=True, text=True, check=False, timeout=600
            )
            if answer.returncode != 0:
                break
        if answer is not None and answer.returncode == 0:
            return _digest(answer.stdout)
        said.append(f"{tool}: {(answer.stderr if answer else '').strip()[-300:]}")
    raise SystemExit(
        "\n".join([f"images: no digest of {image} could be looked up; bases.env is as it was.", *(said or ["no tool is installed"])])
    )


def _digest(answer: str) -> str:
    text = answer.strip()
    return str(json.loads(text)["digest"]) if text.startswith("{") else text


def main(path: Path = BASES_FILE) -> None:
    text = path.read_text(encoding="utf-8")
    digests = {name: look_up(tag_of(reference)) for name, reference in read_bases(text).items()}
    path.write_text(with_digests(text, digests), encoding="utf-8")
    for name, digest in digests.items():
        print(f"{name}: {digest}")


if __name__ == "__main__":
    main()
