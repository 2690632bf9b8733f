"""`optimas estimate`: an upper estimate of what a run takes, from the spec and a few rendered prompts; nothing is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optimas_core.controller import knobs_of
from optimas_core.optimizers import largest_question
from optimas_core.spec import StrictAcceptance
from optimas_core.stages import Project, load_project
from optimas_core.system import Prompt, PromptSpace

# What the hours assume, said beside them. A local model: measured with the embedded one on two cores (benchmarks/local_generation.py);
# a remote one: this many seconds a call, `concurrency` calls at once.
_LOCAL_CALLS_PER_S = 15.0
_REMOTE_S = 2.0


def show_estimate(run_yaml: Path, json_output: bool) -> None:
    """Print calls, tokens, USD by part of the run and hours in all, and the caps beside them."""
    project = load_project(run_yaml)
    rows = estimate(project)
    total: dict[str, Any] = {
        "part": "total",
        "system_runs": sum(row["system_runs"] for row in rows),
        "calls": sum(row["calls"] for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
        "usd": None if any(row["usd"] is None for row in rows) else sum(row["usd"] for row in rows),
    }
    local = any(client.id.startswith("local/") for item in project.system.components.values() for client in item.clients)
    rate = _LOCAL_CALLS_PER_S if local else project.settings.concurrency / _REMOTE_S
    total["hours"] = total["calls"] / rate / 3600
    caps = project.settings.budget.model_dump()
    if json_output:
        print(json.dumps({"parts": rows, "total": total, "caps": caps}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{project.run_id}: at most, before cache and early stopping", title_justify="left")
    for name in ("part", "system runs", "model calls", "tokens", "USD"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for row in (*rows, total):
        usd = "not reported" if row["usd"] is None else f"{row['usd']:.4f}"
        table.add_row(row["part"], f"{row['system_runs']:.0f}", f"{row['calls']:.0f}", f"{row['tokens']:,.0f}", usd)
    console = Console()
    console.print(table)
    console.print(f"Caps: {', '.join(f'{key} {value}' for key, value in caps.items() if value is not None) or 'none'}")
    console.print(
        f"Hours: about {total['hours']:.1f} at {rate:.0f} model calls a second (assumed), training of the reward functions not counted;"
        " `optimas run` shows the time left as measured."
    )


def estimate(project: Project) -> list[dict[str, Any]]:
    """Rows {part, system_runs, calls, tokens, usd}: the initial preference data, an average iteration times their number, the
    validations, the sealed test. Token counts come from the longest of the first training examples' rendered inputs where the
    component reads system inputs only, and from the model's own bound otherwise."""
    settings, system = project.settings, project.system
    components = [name for name in system.optimizable if knobs_of(system, name)]
    share = 1 / len(system.components)
    per_component = {name: _one_call(project, name) for name in system.components}

    def row(part: str, executions: dict[str, float]) -> dict[str, Any]:
        usd: float | None = 0.0
        calls = tokens = 0.0
        for name, count in executions.items():
            one = per_component[name]
            calls += count * one["calls"]
            tokens += count * one["tokens"]
            usd = None if usd is None or one["usd"] is None else usd + count * one["usd"]
        return {"part": part, "system_runs": sum(executions.values()) * share, "calls": calls, "tokens": tokens, "usd": usd}

    def labelling(name: str, inputs: float, candidates: float) -> dict[str, float]:
        rollouts = 1 if _deterministic(project, system.downstream(name)) else settings.preferences.rollouts
        executions = {other: inputs for other in system.upstream(name)}
        executions[name] = inputs * candidates
        executions |= {other: inputs * candidates * rollouts for other in system.downstream(name)}
        return executions

    initial = _sum(
        labelling(name, min(settings.preferences.examples, len(project.split.train)), settings.preferences.candidates)
        for name in components
    )
    per_iteration = []
    for name in components:
        proposals = max(_proposals(project, name, knob) for knob in knobs_of(system, name))
        fresh = labelling(name, settings.optimizers.fresh_inputs, proposals + 2)
        search = {other: float(settings.optimizers.search_inputs) for other in system.upstream(name)}
        search[name] = settings.optimizers.search_inputs * (proposals * settings.optimizers.steps + 1)
        # Where the reward function may not steer, candidates race on whole executions instead.
        race = {other: settings.optimizers.search_inputs * (proposals + 1.0) for other in system.components}
        per_iteration.append(_sum([fresh, {other: max(search.get(other, 0.0), race[other]) for other in race}]))
    average = {name: sum(item.get(name, 0.0) for item in per_iteration) / len(per_iteration) for name in system.components}
    iterations = settings.schedule.iterations
    items = min(settings.acceptance.items, len(project.split.validation))
    arms = 2 if isinstance(settings.acceptance, StrictAcceptance) else 1 + 1 / max(iterations, 1)
    return [
        _proposing(project, components),
        row("initial preference data", initial),
        row(f"local steps of {iterations} iterations", {name: iterations * count for name, count in average.items()}),
        row(f"validation of {iterations} challengers", {name: iterations * items * arms for name in system.components}),
        row("sealed test, both arms", {name: 2.0 * len(project.split.test) for name in system.components}),
    ]


def _proposing(project: Project, components: list[str]) -> dict[str, Any]:
    """What a chat model is asked for instructions (OPRO): it is no part of the system, so it takes no system runs."""
    settings = project.settings.optimizers
    calls = tokens = 0.0
    usd: float | None = 0.0
    chosen = [(name, knob) for name in components for knob in knobs_of(project.system, name)]
    for name, knob in chosen if "opro" in settings.proposers else []:
        item = project.system.components[name]
        space = item.space[knob]
        client = next(iter((*project.proposing, *item.clients)), None)
        if not isinstance(space, PromptSpace) or not space.instruction or client is None:
            continue
        longest = max((str(value) for example in project.split.train[:20] for value in example.fields.values()), key=len)
        asked = largest_question(item, knob, Prompt.from_json(item.defaults[knob]), dict.fromkeys(item.inputs, longest))
        # Each knob is chosen in so many of the iterations on average, and asked about at each local step.
        count = settings.candidates * settings.steps * project.settings.schedule.iterations / len(chosen)
        tokens_in = client.count_tokens(asked)
        calls += count
        tokens += count * (tokens_in + settings.opro_max_tokens)
        price = client.price
        usd = None if usd is None or price is None else usd + count * price.usd(tokens_in, settings.opro_max_tokens)
    part = f"proposals of {project.settings.schedule.iterations} iterations"
    return {"part": part, "system_runs": 0.0, "calls": calls, "tokens": tokens, "usd": usd}


def _one_call(project: Project, name: str) -> dict[str, Any]:
    item = project.system.components[name]
    if not item.clients:
        return {"calls": 0, "tokens": 0, "usd": 0.0}
    knobs = dict(item.defaults)
    rows = [example.fields for example in project.split.train[:20]]
    # A field that another component writes is not known yet; the training row's longest text stands in for it.
    longest = [max((str(value) for value in row.values()), key=len) for row in rows]
    worst = [
        item.worst_case({field: row.get(field, text) for field in item.inputs}, knobs) for row, text in zip(rows, longest, strict=True)
    ]
    usd = None if any(one.usd is None for one in worst) else max(one.usd or 0.0 for one in worst)
    return {"calls": 1, "tokens": max(one.tokens for one in worst), "usd": usd}


def _proposals(project: Project, name: str, knob: str) -> int:
    space = project.system.components[name].space[knob]
    if isinstance(space, PromptSpace):
        return project.settings.optimizers.candidates * len(project.settings.optimizers.proposers)
    return max(len(getattr(space, "values", ())) - 1, 1)


def _deterministic(project: Project, names: frozenset[str]) -> bool:
    components = project.system.components
    return all(components[name].deterministic(components[name].defaults) for name in names)


def _sum(parts: Any) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0.0) + count
    return total
