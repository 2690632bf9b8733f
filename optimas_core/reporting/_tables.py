"""The report's tables as text cells, one function each: the page and report.md show the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.reporting._numbers import NOT_REPORTED, count, hours, interval, score, seconds, signed, usd
from optimas_core.reporting._shown_text import label

VERDICT_WORDS = {"accept": "accepted", "reject": "rejected", "indecisive": "indecisive", "kept": "kept the incumbent"}
STEERING = {"lrf": "local reward", "measured": "measured rollouts"}


@dataclass(frozen=True)
class Table:
    """`numeric` names the columns whose cells are figures (right-aligned)."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


def spend_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, float | None]]:
    """(what, spent, limit, share of the limit or None) in the order system runs, USD, tokens, time."""
    spend, budget = report["spend"], report["budget"]
    unknown = spend["usd_unknown_calls"]
    money = usd(spend["usd"]) + (f" + {count(unknown)} calls of unknown price" if unknown else "")
    shown = [
        ("system runs", count(spend["system_runs"]), "system_runs", count),
        ("money", money, "usd", usd),
        ("tokens", count(spend["tokens"]), "tokens", count),
        ("time", hours(spend["hours"]), "hours", hours),
    ]
    rows = []
    for name, spent, key, words in shown:
        limit, used = budget[key], spend[key]
        share = used / limit if limit and used is not None else None
        rows.append((name, spent, "no limit set" if limit is None else f"of {words(limit)}", share))
    return rows


def iterations_table(report: Mapping[str, Any]) -> Table:
    """One row an iteration: what was tried, by which reward it was steered, what came of it and why."""
    rows = []
    for row in report["iterations"]:
        tried = [proposal for proposal in row["proposals"] if proposal["proposer"] != "incumbent"]
        proposers = ", ".join(dict.fromkeys(label(proposal["proposer"], 24) for proposal in tried))
        dropped = f", {count(len(row['dropped']))} dropped" if row.get("dropped") else ""
        local = f"{score(row['local_reward_before'])} -> {score(row['local_reward_after'])}"
        judged = row["validation"]
        validation = "not spent"
        if judged is not None:
            missing = f", {count(judged['missing'])} missing" if judged["missing"] else ""
            bounds = interval(judged["ci"], differences=True)
            validation = f"{signed(judged['difference'])} ({bounds}, n = {count(judged['n'])}{missing})"
        rows.append((
            str(row["iteration"]), f"{label(row['component'])}.{label(row['knob'])}",
            (f"{len(tried)} ({proposers})" if tried else "none") + dropped,
            STEERING.get(row["steered_by"], label(row["steered_by"])),
            "not reported" if row["local_reward_before"] is None and row["local_reward_after"] is None else local,
            validation, VERDICT_WORDS.get(row["verdict"], label(row["verdict"])), label(row["reason"], 240),
            count(row["system_runs"]), usd(row["usd"]).removeprefix("USD "),
        ))  # fmt: skip
    headers = ("#", "knob", "proposals", "steered by", "local reward", "validation difference (interval)",
               "verdict", "reason", "system runs", "USD")  # fmt: skip
    return Table(headers, tuple(rows), frozenset({8, 9}))


def proposals_table(row: Mapping[str, Any]) -> Table:
    """The proposals of one iteration; those that the leak guard dropped stand last and have no figures."""
    rows = tuple(
        (
            ("* " if p["chosen"] else "") + label(p["label"]), label(p["proposer"], 24), label(p["summary"], 200),
            score(p["local_reward"]), count(p["local_n"]), score(p["measured_reward"]), count(p["measured_n"]),
            score(p["probability"]), label(p["reason"], 200),
        )
        for p in (*row["proposals"], *(_unranked(item) for item in row.get("dropped", ())))
    )  # fmt: skip
    headers = (
        "proposal (* chosen)",
        "proposer",
        "summary",
        "local reward",
        "n",
        "measured",
        "n",
        "probability",
        "reason",
    )
    return Table(headers, rows, frozenset({3, 4, 5, 6, 7}))


def _unranked(item: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = dict.fromkeys(("local_reward", "measured_reward", "probability"))
    return {**item, **unknown, "local_n": 0, "measured_n": 0, "chosen": False, "reason": f"dropped: {item['reason']}"}


def alignment_table(report: Mapping[str, Any]) -> Table:
    """Held-out pairwise accuracy of each component's local reward at every training."""
    rows = [_alignment_row(name, "first", part, None, {}) for name, part in sorted(report["alignment_initial"].items())]
    rows += [
        _alignment_row(row["component"], str(row["iteration"]), row["alignment"], row["decision"], row["drift"])
        for row in report["iterations"]
        if row["alignment"]
    ]
    headers = ("component", "iteration", "accuracy (chance .50)", "interval", "pairs", "examples", "steers",
               "rank correlation", "regret", "drift of others")  # fmt: skip
    return Table(headers, tuple(rows), frozenset({2, 4, 5, 7, 8}))


def _alignment_row(
    name: str, when: str, part: Mapping[str, Any], decision: Mapping[str, Any] | None, drift: Mapping[str, Any] | None
) -> tuple[str, ...]:
    decision = decision or {}
    moved = ", ".join(f"{label(other, 24)} {signed(change)}" for other, change in sorted((drift or {}).items()))
    return (
        label(name), when, score(part["accuracy"]), interval(part["ci"]), count(part["n"]), count(part["examples"]),
        "yes" if part["trusted"] else "no: not better than chance" if part["accuracy"] is not None else "no",
        score(decision.get("spearman")), score(decision.get("regret")), moved or NOT_REPORTED,
    )  # fmt: skip


def landscape_table(landscape: Mapping[str, Any]) -> Table:
    """Every value of a discrete knob with its local and its measured reward."""
    rows = tuple((label(p["value"]), score(p["local"]), score(p["measured"]), count(p["n"])) for p in landscape["points"])
    return Table(("value", "local reward", "measured reward", "n"), rows, frozenset({1, 2, 3}))


def curve_table(report: Mapping[str, Any]) -> Table:
    """The learning curve's figures."""
    rows = tuple(
        (str(p["iteration"]), count(p["system_runs"]), usd(p["usd"]).removeprefix("USD "), score(p["mean"]),
         interval(p["ci"]), count(p["n"]), label(p["event"], 120))
        for p in report["learning_curve"]
    )  # fmt: skip
    headers = ("iteration", "system runs", "USD", "validation mean", "interval", "n", "event")
    return Table(headers, rows, frozenset({0, 1, 2, 3, 5}))


def cost_table(report: Mapping[str, Any]) -> Table:
    """The ledger summed over iterations and components: one row a stage and model, and the total.

    An unknown price makes the sum of its rows unknown, never 0.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in report["ledger"]:
        groups.setdefault((label(entry["stage"]), label(entry["model"] or "no model")), []).append(entry)
    rows = [(*name, *_sums(entries)) for name, entries in groups.items()]
    if rows:
        rows.append(("total", "", *_sums(report["ledger"])))
    headers = (
        "stage",
        "model",
        "calls",
        "from cache",
        "tokens in",
        "tokens out",
        "system runs",
        "USD",
        "time in calls",
    )
    return Table(headers, tuple(rows), frozenset(range(2, 9)))


def _sums(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    rows = list(entries)
    keys = ("calls", "cache_hits", "tokens_in", "tokens_out", "system_runs")
    money = None if any(row["usd"] is None for row in rows) else sum(row["usd"] for row in rows)
    sums = [count(sum(row[key] or 0 for row in rows)) for key in keys]
    return (*sums, usd(money).removeprefix("USD "), seconds(sum(row["seconds"] or 0 for row in rows)))


def heat_map_table(report: Mapping[str, Any]) -> Table:
    """Per measured configuration: how many examples have a reward, how many lack one and why."""
    rows = []
    for row in report["items"]["rows"]:
        statuses: Sequence[str] = row["statuses"]
        known = [reward for reward in row["rewards"] if reward is not None]
        mean = sum(known) / len(known) if known else None
        tally = [count(statuses.count(kind)) for kind in ("ok", "missing", "format_error", "not_run")]
        rows.append((label(row["label"]), score(mean), *tally))
    headers = ("configuration", "mean of the scored", "scored", "missing", "format errors", "not run")
    return Table(headers, tuple(rows), frozenset(range(1, 6)))
