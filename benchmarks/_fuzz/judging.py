"""What came of one input: read, refused with one of our errors, or a defect; in how much time and memory, and how it was told."""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

import optimas_core
from _fuzz.readers import Target
from optimas_core.errors import OptimasError

MAX_EXTRA_MB = 300
MAX_MESSAGE_CHARS = 2500
PACKAGE = str(Path(optimas_core.__file__).parent)
_VARIABLE = re.compile(
    r"(?:'utf-?\d+\w*' )?codec can't decode[^).]*"
    r"|(?<=column )\w+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
    r"|[0-9a-f]{8,}|-?\d[\d.,]*(?:e[+-]?\d+)?|/[\w./-]+"
)
_BRACKETED = re.compile(r"[\[{].*")
Line = tuple[str, int]


@dataclass(frozen=True)
class Outcome:
    """`error`: class name ("" where nothing was raised); `told`: its text without what varies; `where`: the line of ours it came from."""

    kind: Literal["read", "refused", "defect"]
    error: str = ""
    told: str = ""
    where: str = ""
    detail: str = ""
    cpu_s: float = 0.0
    extra_mb: int = 0

    @property
    def signature(self) -> str:
        """Inputs of one signature are of one sort."""
        return f"{self.kind} {self.error} {self.where} {self.told}"


def judge(target: Target, data: bytes) -> Outcome:
    """Give the input to its reader."""
    _forget_peak()
    before_mb = _memory_mb("VmRSS")
    began_s = time.process_time()
    outcome = _read(target, data)
    cpu_s = time.process_time() - began_s
    extra_mb = max(0, _memory_mb("VmHWM") - before_mb)
    if outcome.kind != "defect" and cpu_s > target.max_cpu_s:
        outcome = Outcome("defect", "too slow", detail=f"{cpu_s:.1f} CPU s, at most {target.max_cpu_s}")
    if outcome.kind != "defect" and extra_mb > MAX_EXTRA_MB:
        outcome = Outcome("defect", "too much memory", detail=f"{extra_mb} MB, at most {MAX_EXTRA_MB}")
    return Outcome(outcome.kind, outcome.error, outcome.told, outcome.where, outcome.detail, cpu_s, extra_mb)


def _read(target: Target, data: bytes) -> Outcome:
    try:
        target.read(data)
    except OptimasError as error:
        text, name, where = str(error), type(error).__name__, _origin(error)
        if len(text) > MAX_MESSAGE_CHARS:
            return Outcome("defect", f"{name} of too many characters", where=where, detail=f"{len(text)}: {text[:300]}")
        odd = sorted({letter for letter in text if not letter.isprintable() and letter != "\n"})
        if odd or text.count("\n") > 1:
            return Outcome("defect", f"{name} with control characters", where=where, detail=ascii(text[:300]))
        return Outcome("refused", name, _told(text), where)
    except Exception as error:
        detail = "".join(traceback.format_exception(error)[-6:])[-1500:]
        return Outcome("defect", type(error).__name__, _told(str(error)), _origin(error), detail)
    return Outcome("read")


def _told(text: str) -> str:
    """Without names, numbers, and whatever a value looks like from its first bracket on."""
    return _BRACKETED.sub("…", _VARIABLE.sub("…", text))[:120]


def _origin(error: BaseException) -> str:
    """The innermost function of ours that raised it, and the one that raised its cause."""
    places: list[str] = []
    current: BaseException | None = error
    while current is not None and len(places) < 3:
        frames = [frame for frame in traceback.extract_tb(current.__traceback__) if frame.filename.startswith(PACKAGE)]
        if frames:
            places.append(f"{frames[-1].filename.removeprefix(PACKAGE + '/')}:{frames[-1].name}")
        current = current.__cause__ or current.__context__
    return " < ".join(dict.fromkeys(places))


def lines_of(read: Callable[[], Any]) -> set[Line]:
    """The lines of ours that ran meanwhile."""
    found: set[Line] = set()
    ours: dict[CodeType, bool] = {}

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            found.add((frame.f_code.co_filename, frame.f_lineno))
        return inside

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in ours:
            ours[code] = code.co_filename.startswith(PACKAGE)
        return inside if ours[code] else None

    sys.settrace(entered)
    try:
        read()
    finally:
        sys.settrace(None)
    return found


def _memory_mb(name: str) -> int:
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(name)) >> 10
    except (OSError, StopIteration):  # not Linux: memory is not judged
        return 0


def _forget_peak() -> None:
    """VmHWM begins anew."""
    try:
        with open("/proc/self/clear_refs", "w") as control:
            control.write("5")
    except OSError:
        return
