"""HotpotQA on the embedded model: the whole method with a small budget on data that nobody here wrote, before and after.

    OPTIMAS_DATA=<directory> python benchmarks/hotpotqa.py [--iterations 5] [--seed 0] [--system-runs 500] [--quick] [--json]

The system has the paper's five components (`_systems/hotpotqa.py`): rewriter, extractor, retriever with k in {1, 5, 10, 25} over the 600
paragraphs, hint, answer; metric token F1. 60 questions are divided 24 / 20 / 16 into train, validation and a sealed test by `--seed`. The
run is an ordinary run of the controller; `--system-runs` caps the search, and the sealed test (16 questions, two arms) comes on top.

What to expect: F1 of .07-.10 is the floor of this model (SmolLM2-135M-Instruct) for chat prompts on these questions: it answers in
sentences whatever it is told, and two hops are beyond it. Wording moves nothing there; a gain can only come from the
prompt's format, from demonstrations and from k. With 16 test questions the intervals are wide: read them before the means.
The constant answer (the most frequent one of the training split, given to every test question) stands beside the score.

Passages are cut before a language model sees them (first 400 characters of each, at most 1200 in all, shared equally).
Without OPTIMAS_DATA: one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _systems.hotpotqa import data_file, read_questions

from optimas_core.artifacts import Lease, Workspace, probe
from optimas_core.controller import Controller
from optimas_core.errors import BudgetExhausted, OptimasError
from optimas_core.launchers import InProcessLauncher
from optimas_core.metrics import token_f1
from optimas_core.reporting import write_report
from optimas_core.stages import Project, check_models, load_project, open_run
from optimas_core.system import Split

_LEASE_WAIT_S = 45.0


def run_spec(source: Path, *, iterations: int, seed: int, system_runs: float, quick: bool = False) -> dict[str, Any]:
    """run.yaml as a mapping. `quick`: the smallest sizes that pass through every stage; its figures mean nothing."""
    sizes = {"train": 24, "validation": 20, "test": 16}
    preferences = {"examples": 10, "candidates": 3}
    optimizers: dict[str, Any] = {"candidates": 2, "search_inputs": 12, "fresh_inputs": 8, "opro_max_tokens": 48}
    if quick:
        sizes = {"train": 6, "validation": 8, "test": 4}
        preferences = {"examples": 3, "candidates": 2}
        optimizers = {"proposers": ["edits"], "candidates": 1, "search_inputs": 3, "fresh_inputs": 3}
    return {
        "system": "_systems.hotpotqa:build",
        "data": {"source": str(source), "split": {**sizes, "seed": seed}},
        "seed": seed,
        "concurrency": 32,
        "budget": {"system_runs": system_runs},
        "preferences": preferences,
        "lrf": {"rung": "frozen"},
        "optimizers": optimizers,
        "schedule": {"iterations": iterations, "selection": {"kind": "round_robin"}},
    }


def optimize(directory: Path, spec: Mapping[str, Any], *, report_progress: bool) -> tuple[Project, dict[str, Any], str]:
    """Write run.yaml into `directory` and drive the run to its end there: the project, its report and the report's address.

    Raises:
        UserError: the spec or the data are wrong.
        BudgetExhausted: the cap does not even cover the first preference data.
    """
    import yaml

    file = directory / "run.yaml"
    file.write_text(yaml.safe_dump(dict(spec), sort_keys=False), encoding="utf-8")
    project = load_project(file)
    opened = Workspace.open(project.workspace_url)
    probe(opened.store)
    check_models(project.system)
    try:
        _drive(project, opened, report_progress)
    except BudgetExhausted:
        latest = opened.run(project.run_id).latest_state()
        if latest is None or latest.data["phase"] != "testing":
            raise
        # The search is over and its cap is spent: the sealed test is paid beside it.
        free = project.settings.model_copy(update={"budget": project.settings.budget.model_copy(update={"system_runs": None})})
        _drive(Project(project.directory, free, project.system, project.split, project.identity, project.module), opened, report_progress)
    report, where = write_report(opened.run(project.run_id))
    return project, report, where


def _drive(project: Project, opened: Workspace, report_progress: bool) -> None:
    started = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        if report_progress and done == total:
            print(f"{time.monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)

    context = open_run(project, progress=tell, workspace=opened)
    lease = Lease(context.run)
    lease.acquire(wait_s=_LEASE_WAIT_S)
    launcher = InProcessLauncher(context)
    try:
        with lease.keep():
            Controller(context, launcher, lease).run()
    finally:
        context.budget.flush()
        launcher.close()
        lease.release()


def constant_answer(split: Split) -> tuple[str, float]:
    """The most frequent training answer (of equals the first by alphabet) and its mean F1 on the test split."""
    counts = Counter(str(example.fields["answer"]) for example in split.train)
    answer = min(counts, key=lambda text: (-counts[text], text))
    return answer, sum(token_f1(answer, example.fields["answer"]) for example in split.test) / len(split.test)


def summary(report: Mapping[str, Any], split: Split, seconds: float) -> dict[str, Any]:
    """What the table shows, from report.json."""
    validated = [row for row in report["iterations"] if row["validation"]]
    answer, constant = constant_answer(split)
    return {
        "seed": report["seeds"]["run"],
        "sizes": {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        "before": report["baseline"],
        "after": report["final"],
        "difference": report["difference"],
        "constant_answer": {"answer": answer, "mean": constant},
        "iterations": [
            {
                "iteration": row["iteration"],
                "component": row["component"],
                "knob": row["knob"],
                "steered_by": row["steered_by"],
                "verdict": row["verdict"],
                "incumbent_mean": row["validation"]["incumbent_mean"] if row["validation"] else None,
                "challenger_mean": row["validation"]["challenger_mean"] if row["validation"] else None,
                "n": row["validation"]["n"] if row["validation"] else 0,
            }
            for row in report["iterations"]
        ],
        "validated": len(validated),
        "accepted": [f"{row['component']}.{row['knob']}" for row in report["iterations"] if row["verdict"] == "accept"],
        "system_runs": report["spend"]["system_runs"],
        "tokens": report["spend"]["tokens"],
        "stop_reason": report["stop_reason"],
        "verdict": report["verdict"]["line"],
        "seconds": seconds,
    }


def table(data: Mapping[str, Any]) -> str:
    """The one table, as Markdown, and the lines beside it."""
    sizes, difference = data["sizes"], data["difference"]
    lines = [
        f"| HotpotQA, seed {data['seed']}, token F1 | before | after | difference |",
        "|---|---|---|---|",
        f"| sealed test ({sizes['test']} questions), 95 % interval "
        f"| {_mean(data['before'])} | {_mean(data['after'])} | {_mean(difference)} |",
        f"| the constant answer {data['constant_answer']['answer']!r} on it | {data['constant_answer']['mean']:.3f} | | |",
    ]
    for row in data["iterations"]:
        what = f"{row['iteration']}: {row['component']}.{row['knob']}, by {_steering(row['steered_by'])}, {row['verdict']}"
        old, new = row["incumbent_mean"], row["challenger_mean"]
        if old is None or new is None:
            lines.append(f"| {what} | not validated | | |")
        else:
            lines.append(f"| {what}, validation mean of {row['n']} | {old:.3f} | {new:.3f} | {new - old:+.3f} |")
    lines += [
        "",
        f"accepted changes: {', '.join(data['accepted']) or 'none'}",
        f"system runs: {data['system_runs']:.0f}, tokens: {data['tokens']}, stopped: {data['stop_reason']}",
        data["verdict"],
        f"{data['seconds']:.0f} s",
    ]
    return "\n".join(lines)


def _steering(kind: str) -> str:
    return "LRF" if kind == "lrf" else "measured rollouts"


def _mean(arm: Mapping[str, Any]) -> str:
    if arm["mean"] is None:
        return "not measured"
    return f"{arm['mean']:.3f}" + (f" [{arm['ci'][0]:.3f}, {arm['ci'][1]:.3f}]" if arm["ci"] else "")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=5, help="iterations; five visit every component once")
    parser.add_argument("--seed", type=int, default=0, help="of the run and of the split")
    parser.add_argument("--system-runs", type=float, default=500.0, help="cap of the search, in equivalent system runs")
    parser.add_argument("--workspace", type=Path, help="keep the run here (a second start goes on); default: a temporary directory")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that it works; its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    started = time.monotonic()
    try:
        source = data_file()
        read_questions(source)
        spec = run_spec(source, iterations=asked.iterations, seed=asked.seed, system_runs=asked.system_runs, quick=asked.quick)
        with tempfile.TemporaryDirectory(prefix="optimas-hotpotqa-") as temporary:
            directory = asked.workspace or Path(temporary)
            directory.mkdir(parents=True, exist_ok=True)
            project, report, where = optimize(directory, spec, report_progress=True)
            data = summary(report, project.split, time.monotonic() - started)
    except OptimasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(data, indent=1, sort_keys=True) if asked.json else table(data))
    if asked.workspace is not None:
        print(f"report: {where}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
