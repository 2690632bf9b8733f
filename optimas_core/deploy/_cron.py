"""Six-field cron as Kubeflow Pipelines reads it: second, minute, hour, day of month, month, day of week.

Kubeflow takes a five-field expression too and reads its first field as seconds: a nightly run becomes one every minute or hour. Only what
every reader of cron understands alike is taken here; `cronsim` tells the next times and says it in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from optimas_core.errors import SpecError

_FIELDS = (("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6))
_NAMES = {
    "month": ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
    "day of week": ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"),
}
_ITEM = re.compile(r"(?P<from>\*|[0-9]{1,2}|[A-Z]{3})(?:-(?P<to>[0-9]{1,2}|[A-Z]{3}))?(?:/(?P<step>[0-9]{1,2}))?")
_EXAMPLE = 'Write for example "0 0 2 * * 0": second, minute, hour, day of month, month, day of week (0 is Sunday).'


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression in its plainest form; equal schedules written alike are equal."""

    text: str

    @property
    def words(self) -> str:
        from cronsim import CronSim

        return str(CronSim(self.text, datetime.now(UTC)).explain())

    def next_times(self, count: int = 3, *, after: datetime | None = None) -> tuple[datetime, ...]:
        """The next times in UTC, which is a cluster's time unless it sets CRON_SCHEDULE_TIMEZONE."""
        from cronsim import CronSim

        return tuple(islice(CronSim(self.text, after or datetime.now(UTC)), count))


def read_cron(text: str) -> Cron:
    """Check an expression.

    Raises:
        SpecError: not six fields; a field out of range; both days restricted; more than one second; a date that never comes.
    """
    fields = text.upper().split()
    if len(fields) == 5:
        raise SpecError(
            f"{text!r} has five fields; Kubeflow Pipelines reads six, the first of them seconds, and would run it at other times.",
            remedy=f'Write "0 {" ".join(fields)}".',
        )
    if len(fields) != 6:
        raise SpecError(f"{text[:100]!r} has {len(fields)} fields, not six.", remedy=_EXAMPLE)
    plain = [_field(field, *what) for field, what in zip(fields, _FIELDS, strict=True)]
    if not plain[0].isdecimal():
        raise SpecError(f"{text!r} starts a run at more than one second of a minute.", remedy="Give one second, as 0, in the first field.")
    if plain[3] != "*" and plain[5] != "*":
        raise SpecError(
            f"{text!r} restricts the day of month and the day of week; readers of cron differ on whether both or either must hold.",
            remedy="Write * in one of them.",
        )
    cron = Cron(" ".join(plain))
    if not _comes(cron):
        raise SpecError(f"{text!r} never comes.", remedy="Correct the day of month or the month.")
    return cron


def _field(text: str, what: str, low: int, high: int) -> str:
    return ",".join(_item(part, what, low, high) for part in ("*" if text == "?" else text).split(","))


def _item(text: str, what: str, low: int, high: int) -> str:
    found = _ITEM.fullmatch(text)
    if found is None or (found["from"] == "*" and found["to"]) or (found["step"] and found["from"] != "*" and not found["to"]):
        raise SpecError(
            f"{text[:40]!r} is no {what} of a cron expression.", remedy="Use *, a number, a list 1,3, a range 1-5 or steps */15, 8-18/2."
        )
    step = f"/{int(found['step'])}" if found["step"] else ""
    if found["step"] and not 1 <= int(found["step"]) <= high - low + 1:
        raise SpecError(f"the step of {text!r} in {what} is not between 1 and {high - low + 1}.", remedy=_EXAMPLE)
    if found["from"] == "*":
        return "*" if step in ("", "/1") else f"*{step}"
    first = _number(found["from"], text, what, low, high)
    if not found["to"]:
        return str(first)
    last = _number(found["to"], text, what, low, high)
    if last < first:
        raise SpecError(f"the range {text!r} in {what} runs backwards.", remedy="Write it as two ranges, for example 22-23,0-2.")
    return f"{first}-{last}{step}"


def _number(text: str, whole: str, what: str, low: int, high: int) -> int:
    names = _NAMES.get(what, ())
    value = names.index(text) + low if text in names else int(text) if text.isdecimal() else low - 1
    if not low <= value <= high:
        raise SpecError(f"{text!r} in {whole!r} is no {what}: it goes from {low} to {high}.", remedy=_EXAMPLE)
    return value


def _comes(cron: Cron) -> bool:
    from cronsim import CronSimError

    try:
        return bool(cron.next_times(1))
    except CronSimError:
        return False
