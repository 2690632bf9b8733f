"""Which files of a project's folder travel: what git would track, or outside git all but the usual by-products."""

from __future__ import annotations

import os
import stat
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from optimas_core.artifacts._bundle_archive import MAX_BUNDLE_FILES, is_bundle_name
from optimas_core.errors import EnvironmentNotReady, SpecError

_BY_PRODUCTS = {"__pycache__", "node_modules"}
_BUILT = {"build", "dist"}
# What a git hook sets would point git at another repository than the folder's.
_GIT_PLACES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"}
_GIT_WAIT_S = 120.0


def files_of(directory: Path, exclude: Sequence[Path]) -> dict[str, Path]:
    """The files below a real directory, by their names relative to it, each with the file to read: a link's is its target.

    In a git repository: tracked files that are there, and untracked ones that are not ignored; a submodule's too. Bytecode never
    travels: Python writes it, and two packings of one project would differ.

    Raises:
        SpecError: a link that leads out of the directory or to what does not travel, a name that cannot be one, too many files.
        EnvironmentNotReady: a git repository that git cannot read.
    """
    apart = _prefixes(directory, exclude)
    names = _git_names(directory)
    plain: dict[str, Path] = {}
    links: dict[str, Path] = {}
    for name in _walk(directory, apart) if names is None else names:
        if _is_bytecode(name) or _below(name, apart):
            continue
        path = directory / name
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue  # git tracks it, but it was deleted
        if not is_bundle_name(name):
            raise SpecError(
                f"the file name {name[:300]!r} in {directory} cannot travel.",
                remedy="Give it a name in UTF-8, without control characters, of at most 100 bytes.",
            )
        if stat.S_ISLNK(mode):
            links[name] = path
        elif stat.S_ISREG(mode):
            plain[name] = path
        if len(plain) + len(links) > MAX_BUNDLE_FILES:  # now, before all of a disk is walked through
            check_number(directory, [*plain, *links])
    found = dict(plain)
    for name, path in links.items():
        found |= _behind(directory, name, path, plain)
        check_number(directory, found)
    return found


def check_number(directory: Path, names: Collection[str]) -> None:
    """Raises: SpecError: more files, or folders, than a bundle holds."""
    if len(names) <= MAX_BUNDLE_FILES:
        return
    most, number = Counter(name.partition("/")[0] for name in names).most_common(1)[0]
    raise SpecError(
        f"{directory} has more than {MAX_BUNDLE_FILES} files or folders to send ({number} or more of them in {most[:100]!r}).",
        remedy="Let git ignore what the system does not need, or give the system a folder of its own: only the folder of run.yaml travels.",
    )


def _prefixes(directory: Path, exclude: Sequence[Path]) -> tuple[str, ...]:
    """The excluded folders relative to the directory, both as written and with links followed; those elsewhere do not matter."""
    found = set()
    for place in exclude:
        folder, name = os.path.split(os.path.abspath(place))
        for path in (os.path.join(os.path.realpath(folder), name), os.path.realpath(place)):
            relative = os.path.relpath(path, directory)
            if relative == ".":
                raise SpecError(
                    f"the workspace {path} is the project's own folder.",
                    remedy="Give the workspace a folder of its own, for example ./workspace.",
                )
            if relative.split("/")[0] != "..":
                found.add(relative)
    return tuple(sorted(found))


def _below(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes)


def _is_bytecode(name: str) -> bool:
    return name.endswith((".pyc", ".pyo")) or "__pycache__" in name.split("/")


def _behind(directory: Path, name: str, link: Path, plain: dict[str, Path]) -> dict[str, Path]:
    """What a link stands for: the bundle holds no links, so the files go in under both names."""
    target = os.path.relpath(os.path.realpath(link), directory)
    if target == "." or target.split("/")[0] == "..":
        raise SpecError(
            f"{name} in {directory} is a link that leaves the folder, to {os.readlink(link)[:300]!r}.",
            remedy="Put what it points at into the folder, or let git ignore the link.",
        )
    if target in plain:
        return {name: plain[target]}
    below = {name + other.removeprefix(target): path for other, path in plain.items() if other.startswith(f"{target}/")}
    wrong = next((other for other in below if not is_bundle_name(other)), None)
    if not below or wrong is not None:
        raise SpecError(
            f"{name} in {directory} is a link to {target[:300]!r}, which does not travel.",
            remedy="Let it point at a file that git tracks, or let git ignore the link.",
        )
    return below


def _walk(directory: Path, apart: tuple[str, ...]) -> Iterator[str]:
    """Outside git: everything but hidden folders, virtual environments, and what builds leave behind."""

    def unreadable(error: OSError) -> None:
        raise SpecError(
            f"{error.filename} cannot be read: {error.strerror}.", remedy="Mend its rights, or move it out of the folder."
        ) from error

    for folder, folders, names in os.walk(directory, onerror=unreadable):
        inside = os.path.relpath(folder, directory)
        start = "" if inside == "." else f"{inside}/"
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(
            name for name in folders if name not in links and not _by_product(folder, name) and not _below(start + name, apart)
        )
        yield from (start + name for name in sorted([*names, *(name for name in links if not _by_product(folder, name))]))


def _by_product(folder: str, name: str) -> bool:
    if name.startswith(".") or name in _BY_PRODUCTS or name.endswith(".egg-info"):
        return True
    path = os.path.join(folder, name)
    if name in _BUILT:  # unless someone calls a package so
        return not os.path.isfile(os.path.join(path, "__init__.py"))
    return os.path.isfile(os.path.join(path, "pyvenv.cfg"))


def _git_names(directory: Path) -> list[str] | None:
    """What git says about a directory, relative to it; None where it is in no repository."""
    listed = _git_ls_files(directory)
    if listed is None:
        return None
    names: dict[str, None] = {}
    for name in dict.fromkeys(listed):  # a file in conflict is listed once a side
        path = directory / name
        if path.is_symlink() or not path.is_dir():
            names[name] = None
            continue
        # A repository within the repository: git tracks its commit, the bundle needs its files.
        inner = name.rstrip("/")
        below = _git_names(path) if (path / ".git").exists() else None
        if below is None and not any(path.iterdir()):
            raise SpecError(f"the submodule {inner} in {directory} is not checked out.", remedy="Run `git submodule update --init`.")
        names |= {f"{inner}/{other}": None for other in below or ()}
    return list(names)


def _git_ls_files(directory: Path) -> list[str] | None:
    # Without the monitor: a repository's own settings could start a program by it.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_GIT_WAIT_S)
    except FileNotFoundError:
        if not any((folder / ".git").exists() for folder in (directory, *directory.parents)):
            return None
        raise EnvironmentNotReady(
            f"{directory} is in a git repository, but there is no program git to ask what it tracks.", remedy="Install git."
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentNotReady(
            f"git did not list the files of {directory} in {_GIT_WAIT_S:g} s.", remedy="Run `git status` there."
        ) from None
    if done.returncode == 0:
        return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    said = done.stderr.decode(errors="replace").strip()
    if "not a git repository" in said:
        return None
    raise EnvironmentNotReady(
        f"git cannot list the files of {directory}: {said[:300]}.", remedy="Run `git status` there and do what it says."
    )
