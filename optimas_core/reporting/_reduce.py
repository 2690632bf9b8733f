"""report.json from a run's workspace: one reducer for the HTML page, the Markdown and the terminal. Reads, never computes anew."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from optimas_core._version import __version__
from optimas_core.acceptance import mean_interval
from optimas_core.artifacts import RunWorkspace, read_table
from optimas_core.canonical import parse_json
from optimas_core.controller import RunState
from optimas_core.errors import ArtifactCorrupt
from optimas_core.reporting._damage import damage_told
from optimas_core.reporting._drift import drift_of
from optimas_core.reporting._notes import notes_of
from optimas_core.reporting._verdict_line import verdict_line
from optimas_core.rewards import AlignmentResult, better_than_chance
from optimas_core.rollouts import Budget
from optimas_core.spec import BudgetSettings, RunSettings
from optimas_core.system import Configuration

_DROPPED = ("label", "proposer", "summary", "reason")
# Of the sealed test's pairs; `acceptance.max_missing` where the rule has it.
_MAX_MISSING = 0.2


def report_of(run: RunWorkspace) -> dict[str, Any]:
    """The report of a run as it stands, finished or not.

    Raises:
        ArtifactCorrupt: a committed file cannot be read.
    """
    spec = run.read_spec()
    if spec is None:
        raise ArtifactCorrupt(f"{run.uri} has no spec.json.", remedy="Is this a run's workspace?")
    with damage_told(run):
        return _reduced(run, spec)


def _reduced(run: RunWorkspace, spec: Mapping[str, Any]) -> dict[str, Any]:
    settings = RunSettings.model_validate({**spec["settings"], "workspace": "."})
    states = [RunState.from_json(stored.data) for stored in run.states()]
    last = states[-1] if states else RunState(configuration=spec["start"])
    budget = Budget(BudgetSettings(), run)
    ledger = budget.rows()
    iterations = _iterations(run, states, ledger, spec)
    test = _json(run, "validations", last.record["test"], "decision.json") if "test" in last.record else None
    checked = states[0].record.get("drift") if states else None
    low, high = spec["system"]["metric_range"]
    report: dict[str, Any] = {
        "run_id": run.run_id,
        "system": spec["system"]["name"],
        "status": "finished" if last.phase == "finished" else "running",
        "stop_reason": last.stop_reason,
        "created_at": spec["created_at"],
        "versions": {"optimas": __version__, "python": platform.python_version(), "producer": spec["producer"]},
        "metric": {"name": spec["system"]["metric"], "low": low, "high": high},
        "seeds": {"run": settings.seed, "split": settings.data.split.seed},
        "baseline": _arm(test, "incumbent"),
        "final": _arm(test, "challenger"),
        "difference": {**(test["difference"] if test else {"mean": None, "ci": None, "n": 0}), "confidence": 0.95},
        "sealed_test": _sealed_test(settings, spec, test),
        "chance": test["chance"] if test else None,
        "majority": test["majority"] if test else None,
        "drift": drift_of(_json(run, "validations", checked, "decision.json")) if checked is not None else None,
        "iterations": iterations,
        "leaks_caught": sum(len(row["dropped"]) for row in iterations),
        "alignment_initial": _initial_alignment(run, states),
        "learning_curve": _learning_curve(run, spec, states, iterations),
        "landscapes": _landscapes(iterations),
        "ledger": ledger,
        "spend": _spend(budget, ledger),
        "budget": _caps(run, settings),
        "savings": _savings(run, states),
        "items": _items(run, states),
        "configuration": {"before": _configuration(run, spec["start"]), "after": _configuration(run, last.configuration)},
        "digests": {
            "identity": spec["identity"],
            "system": spec["system"]["fingerprint"],
            "data": spec["data"]["digest"],
            "start": spec["start"],
            "final": last.configuration,
            "prices": spec.get("prices"),
            "lrf": last.lrf,
        },
        "reproduce": [
            f"optimas run run.yaml{f' --seed {settings.seed}' if settings.seed == settings.data.split.seed else ''}"
            "   # with the spec, code and data that the digests name"
        ],
        "notes": [],
    }
    report["verdict"] = {"kind": _verdict_kind(report), "line": ""}
    report["notes"] = notes_of(report, settings, spec["data"], test["errors"] if test else [])
    report["verdict"]["line"] = verdict_line(report)
    return report


def _iterations(
    run: RunWorkspace, states: Sequence[RunState], ledger: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    total_runs, total_usd = _spent_in(ledger, 0)
    for state in states:
        if "result" not in state.record:
            continue
        plan, result = state.record["plan"], state.record["result"]
        ranking = _json(run, "proposals", result["ranking"], "ranking.json")
        decision = _json(run, "validations", result["validation"], "decision.json") if result["validation"] else None
        metrics = _json(run, "lrf", result["lrf"], "metrics.json") if result["lrf"] else {}
        runs, usd = _spent_in(ledger, state.iteration)
        total_runs += runs
        total_usd = None if total_usd is None or usd is None else total_usd + usd
        incumbent = ranking["candidates"][0]
        chosen = next(item for item in ranking["candidates"] if item["chosen"])
        alignment = ranking["alignment"]
        accepted = result["verdict"] == "accept"
        rows.append(
            {
                "iteration": state.iteration,
                "component": plan["component"],
                "knob": plan["knob"],
                "kind": ranking["kind"],
                "mode": ranking["mode"],
                "steered_by": ranking["steered_by"],
                "steered_reason": ranking["steered_reason"],
                "proposals": [_proposal(item, result["verdict"]) for item in ranking["candidates"]],
                "dropped": [{key: item[key] for key in _DROPPED} for item in ranking.get("dropped", [])],
                "local_reward_before": incumbent["local_reward"],
                "local_reward_after": chosen["local_reward"],
                "alignment": _alignment(alignment) | {"trusted": alignment["trusted"]},
                "decision": {key: ranking["decision"].get(key) for key in ("spearman", "regret", "candidates", "examples")},
                "drift": metrics.get("drift", {}),
                "adaptation": {"kept": metrics.get("adapted"), "reason": metrics.get("reason", "")},
                "verdict": result["verdict"],
                "reason": result["reason"],
                "validation": _validation(decision),
                "system_runs": runs,
                "usd": usd,
                "tokens": sum(row["tokens_in"] + row["tokens_out"] for row in ledger if row["iteration"] == state.iteration),
                "cumulative_system_runs": total_runs,
                "cumulative_usd": total_usd,
                "incumbent_validation_mean": state.validation_mean,
                "change": _change(run, plan, result) if accepted else None,
                "_values": [(item["values"].get(plan["knob"]), item) for item in ranking["candidates"]],
                "_now": (run.read_configuration(plan["configuration"]) or {}).get(plan["component"], {}).get(plan["knob"]),
            }
        )
    return rows


def _proposal(item: Mapping[str, Any], verdict: str) -> dict[str, Any]:
    reason = f"sent to validation: {verdict}" if item["chosen"] and item["proposer"] != "incumbent" else ""
    if not item["chosen"]:
        reason = "lower local or measured reward" if item["proposer"] != "incumbent" else "a candidate ranked higher"
    elif item["proposer"] == "incumbent":
        reason = "nothing ranked higher: kept"
    return {
        key: item[key]
        for key in ("label", "proposer", "summary", "local_reward", "local_n", "measured_reward", "measured_n", "probability", "chosen")
    } | {"reason": reason}


def _validation(decision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "n": decision["n_pairs"],
        "missing": decision["n_missing"],
        "incumbent_mean": decision["incumbent_mean"],
        "challenger_mean": decision["challenger_mean"],
        "difference": decision["difference"],
        "ci": None if decision["low"] is None else [decision["low"], decision["high"]],
        "p_value": decision["p_value"],
        "alpha": decision["alpha"],
    }


def _change(run: RunWorkspace, plan: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    before, after = run.read_configuration(plan["configuration"]) or {}, run.read_configuration(result["configuration"]) or {}
    return {"before": before.get(plan["component"], {}), "after": after.get(plan["component"], {})}


def _spent_in(ledger: Sequence[Mapping[str, Any]], iteration: int) -> tuple[float, float | None]:
    """(system runs, USD) of one iteration; 0 is the warm-up. The sealed test belongs to none."""
    rows = [row for row in ledger if row["iteration"] == iteration and row["stage"] != "sealed-test"]
    usd = None if any(row["usd"] is None for row in rows) else sum(row["usd"] for row in rows)
    return sum(row["system_runs"] for row in rows), usd


def _spend(budget: Budget, ledger: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    spent = budget.spent()
    return {
        "usd": None if spent.usd_unknown_calls else spent.usd,
        "usd_unknown_calls": spent.usd_unknown_calls,
        "tokens": spent.tokens,
        "system_runs": spent.system_runs,
        "hours": budget.hours(),
        "cache_hits": sum(row["cache_hits"] for row in ledger),
    }


def _initial_alignment(run: RunWorkspace, states: Sequence[RunState]) -> dict[str, Any]:
    warm = next((state for state in states if state.phase == "warm" and state.record.get("lrf")), None)
    if warm is None:
        return {}
    data = _json(run, "lrf", warm.record["lrf"], "metrics.json")["alignment"]
    return {name: _alignment(result) | {"trusted": better_than_chance(AlignmentResult(**result))} for name, result in data.items()}


def _alignment(result: Mapping[str, Any]) -> dict[str, Any]:
    known = result["n_pairs"] > 0
    return {
        "accuracy": result["accuracy"] if known else None,
        "ci": [result["low"], result["high"]] if known else None,
        "n": result["n_pairs"],
        "examples": result["n_examples"],
    }


def _learning_curve(
    run: RunWorkspace, spec: Mapping[str, Any], states: Sequence[RunState], iterations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Mean of the arm that each validation left as the incumbent, over the system runs spent until then."""
    low, high = spec["system"]["metric_range"]
    by_iteration = {row["iteration"]: row for row in iterations}
    curve: list[dict[str, Any]] = []
    for state in states:
        result = state.record.get("result")
        if not result or not result["validation"]:
            continue
        row = by_iteration[state.iteration]
        arms = _scores(run, result["validation"])
        if not curve and arms["incumbent"]:
            interval = mean_interval(arms["incumbent"], metric_range=(low, high))
            first = sum(arms["incumbent"]) / len(arms["incumbent"])
            curve.append(
                {
                    "iteration": 0,
                    "system_runs": 0.0,
                    "usd": 0.0,
                    "mean": first,
                    "ci": [interval.low, interval.high],
                    "n": len(arms["incumbent"]),
                    "event": "start",
                }
            )
        kept = arms["challenger" if result["verdict"] == "accept" else "incumbent"]
        if not kept:
            continue
        interval = mean_interval(kept, metric_range=(low, high))
        curve.append(
            {
                "iteration": state.iteration,
                "system_runs": row["cumulative_system_runs"],
                "usd": row["cumulative_usd"],
                "mean": sum(kept) / len(kept),
                "ci": [interval.low, interval.high],
                "n": len(kept),
                "event": result["verdict"],
            }
        )
    return curve


def _scores(run: RunWorkspace, name: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"incumbent": [], "challenger": []}
    for row in _validation_rows(run, name):
        if row["reward"] is not None:
            found[row["arm"]].append(row["reward"])
    return found


def _validation_rows(run: RunWorkspace, name: str) -> list[dict[str, Any]]:
    artifact = run.open_artifact("validations", name)
    if artifact is None:
        raise ArtifactCorrupt(f"validations/{name} is not in {run.uri}.", remedy="Restore it from a copy.")
    return read_table("validations", artifact.read("validations.parquet"), file=f"{artifact.uri}/validations.parquet")


def _landscapes(iterations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Local against measured reward over the values of each discrete knob, from the last iteration that tried it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in iterations:
        values, now = row.pop("_values"), row.pop("_now")
        if row["kind"] != "discrete":
            continue
        points = [
            {
                "value": now if item["proposer"] == "incumbent" else value,
                "local": item["local_reward"],
                "measured": item["measured_reward"],
                "n": item["measured_n"],
            }
            for value, item in values
        ]
        points.sort(
            key=lambda point: (
                not isinstance(point["value"], int | float),
                point["value"] if isinstance(point["value"], int | float) else str(point["value"]),
            )
        )
        found[row["component"], row["knob"]] = {
            "component": row["component"],
            "knob": row["knob"],
            "iteration": row["iteration"],
            "points": points,
        }
    return list(found.values())


def _savings(run: RunWorkspace, states: Sequence[RunState]) -> dict[str, int]:
    names = {name for state in states for items in state.preferences.values() for name in items}
    done = saved = 0
    for name in sorted(names):
        for row in _json(run, "preferences", name, "summary.json").values():
            done += row["rollouts_done"]
            saved += row["rollouts_saved"]
    return {"rollouts_done": done, "rollouts_saved": saved}


def _items(run: RunWorkspace, states: Sequence[RunState]) -> dict[str, Any]:
    """Item by iteration: one row for the first incumbent and one for each challenger that was validated."""
    rows: list[tuple[str, int, dict[str, dict[str, Any]]]] = []
    ids: list[str] = []
    for state in states:
        result = state.record.get("result")
        if not result or not result["validation"]:
            continue
        table = _validation_rows(run, result["validation"])
        arms = {arm: {row["example_id"]: row for row in table if row["arm"] == arm} for arm in ("incumbent", "challenger")}
        ids += [name for name in arms["incumbent"] if name not in ids]
        if not rows:
            rows.append(("start", state.iteration, arms["incumbent"]))
        plan = state.record["plan"]
        rows.append((f"{state.iteration}: {plan['component']}.{plan['knob']} ({result['verdict']})", state.iteration, arms["challenger"]))
    return {
        "example_ids": ids,
        "rows": [
            {
                "label": label,
                "iteration": iteration,
                "rewards": [found[name]["reward"] if name in found else None for name in ids],
                "statuses": [found[name]["status"] if name in found else "not_run" for name in ids],
            }
            for label, iteration, found in rows
        ],
    }


def _arm(test: Mapping[str, Any] | None, arm: str) -> dict[str, Any]:
    return dict(test[arm]) if test else {"mean": None, "ci": None, "n": 0}


def _sealed_test(settings: RunSettings, spec: Mapping[str, Any], test: Mapping[str, Any] | None) -> dict[str, Any]:
    """How many items the test has, how many lack a score in at least one arm, and the share above which there is no verdict."""
    items = spec["data"]["test"]
    most = getattr(settings.acceptance, "max_missing", _MAX_MISSING)
    return {"items": items, "missing": items - test["difference"]["n"] if test else 0, "max_missing": most}


def _verdict_kind(report: Mapping[str, Any]) -> str:
    if report["status"] != "finished":
        return "unfinished"
    if report["drift"] is not None and not report["drift"]["moved"]:
        return "unmoved"
    if report["digests"]["start"] == report["digests"]["final"]:
        return "no_change"
    interval, test = report["difference"]["ci"], report["sealed_test"]
    if interval is None or test["missing"] > test["max_missing"] * test["items"]:
        return "indecisive"
    if interval[0] > 0:
        return "improved"
    return "worse" if interval[1] < 0 else "not_significant"


def _caps(run: RunWorkspace, settings: RunSettings) -> dict[str, Any]:
    """Those in force: they may have been raised on a resumption."""
    data = run.read_file("report/caps.json")
    return (settings.budget if data is None else BudgetSettings.model_validate(parse_json(data))).model_dump()


def _configuration(run: RunWorkspace, name: str) -> dict[str, Any] | None:
    found = run.read_configuration(name)
    return None if found is None else Configuration.from_json(found).to_json()


def _json(run: RunWorkspace, kind: str, name: str, file: str) -> dict[str, Any]:
    artifact = run.open_artifact(kind, name)
    if artifact is None:
        raise ArtifactCorrupt(f"{kind}/{name} is not in {run.uri}.", remedy="Restore it from a copy.")
    data: dict[str, Any] = artifact.read_json(file)
    return data
