"""One client's load on the endpoint, in a process of its own: prints what it took as one line of JSON.

    python load.py --client engine --base-url http://127.0.0.1:1/v1 --calls 1024 --in-flight 256

The same file runs under an interpreter that has only DSPy: it imports nothing of ours except in the engine's client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 32
INSTRUCTION = "Answer the question in a few words."


def question(number: int) -> str:
    return f"Question {number}: which river flows through the city of Cologne, and through Basel, Mainz and Rotterdam before and after it?"


def engine(base_url: str, in_flight: int, *, on_disk: bool) -> Callable[[range], None]:
    """Our RolloutEngine; `on_disk`: with the call cache and the ledger of a workspace directory, as in a run."""
    from optimas_core import CompoundSystem, OpenAICompatible, llm
    from optimas_core.artifacts import Workspace
    from optimas_core.rollouts import Budget, RolloutEngine, Task
    from optimas_core.spec import BudgetSettings
    from optimas_core.system import Example

    model = OpenAICompatible("endpoint", base_url, max_in_flight=in_flight)
    answerer = llm("answerer", inputs=["question"], output="answer", model=model, prompt=INSTRUCTION, max_tokens=64)
    system = CompoundSystem([answerer], outputs=["answer"], metric=lambda example, outputs: float("Rhine" in outputs["answer"]))
    caps = BudgetSettings(tokens=10**9, system_runs=10**7)
    if on_disk:
        workspace = Workspace.open(tempfile.mkdtemp(prefix="load-"))
        run = workspace.run("load")
        run.freeze_spec({"format": 1})
        budget, calls = Budget(caps, run), workspace.calls
    else:
        budget, calls = Budget(caps), None
    rollouts = RolloutEngine(system, budget, calls=calls, concurrency=in_flight)
    runner = asyncio.Runner()

    def run_all(numbers: range) -> None:
        tasks = [Task(Example(str(number), {"question": question(number)}), system.configuration) for number in numbers]
        done = runner.run(rollouts.run(tasks, stage="load", iteration=0))
        budget.flush()
        assert all(item.reward == 1.0 for item in done), next(item.error for item in done if item.reward != 1.0)

    return run_all


def sdk(base_url: str, in_flight: int) -> Callable[[range], None]:
    """Nothing but the openai SDK in a loop with a semaphore: what the SDK itself takes."""
    import openai

    runner = asyncio.Runner()
    client = openai.AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0)

    async def ask_all(numbers: range) -> list[str]:
        free = asyncio.Semaphore(in_flight)

        async def ask(number: int) -> str:
            async with free:
                messages: Any = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question(number)}]
                reply = await client.chat.completions.create(model="endpoint", messages=messages, max_tokens=64, temperature=0)
                return reply.choices[0].message.content or ""

        return list(await asyncio.gather(*(ask(number) for number in numbers)))

    def run_all(numbers: range) -> None:
        assert all("Rhine" in text for text in runner.run(ask_all(numbers)))

    return run_all


def dspy_evaluate(base_url: str, in_flight: int, *, predict: bool, cache: bool) -> Callable[[range], None]:
    """DSPy's Evaluate over dspy.Predict, or (`predict` False) over a module that only calls the model with the same messages as ours."""
    import dspy  # type: ignore[import-not-found]

    if cache:
        dspy.configure_cache(disk_cache_dir=tempfile.mkdtemp(prefix="load-"))
    lm = dspy.LM("openai/endpoint", api_base=base_url, api_key="none", cache=cache, max_tokens=64, temperature=0.0, num_retries=0)
    dspy.configure(lm=lm)

    class Bare(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str) -> Any:
            messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]
            return dspy.Prediction(answer=str(lm(messages=messages)[0]))

    program = dspy.Predict(dspy.Signature("question -> answer", INSTRUCTION)) if predict else Bare()

    def metric(example: Any, found: Any, trace: Any = None) -> float:
        return float("Rhine" in found.answer)

    def run_all(numbers: range) -> None:
        devset = [dspy.Example(question=question(number), answer="the Rhine").with_inputs("question") for number in numbers]
        evaluate = dspy.Evaluate(devset=devset, metric=metric, num_threads=in_flight, display_progress=False, display_table=False)
        score = float(evaluate(program).score)
        assert score == 100.0, f"DSPy scored {score}"

    return run_all


CLIENTS: dict[str, Callable[[str, int], Callable[[range], None]]] = {
    "engine": lambda url, n: engine(url, n, on_disk=True),
    "engine-memory": lambda url, n: engine(url, n, on_disk=False),
    "sdk": sdk,
    "dspy": lambda url, n: dspy_evaluate(url, n, predict=True, cache=True),
    "dspy-uncached": lambda url, n: dspy_evaluate(url, n, predict=True, cache=False),
    "dspy-bare": lambda url, n: dspy_evaluate(url, n, predict=False, cache=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", choices=sorted(CLIENTS), required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--profile", action="store_true", help="print the functions that take the most time to stderr")
    settings = parser.parse_args()
    run_all = CLIENTS[settings.client](settings.base_url, settings.in_flight)
    run_all(range(-WARM_UP, 0))  # imports and first connections are not what is measured
    before, started_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    if settings.profile:
        _profiled(run_all, range(settings.calls))
    else:
        run_all(range(settings.calls))
    wall_s, after = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": after.ru_maxrss / 1024}))


def _profiled(run_all: Callable[[range], None], numbers: range) -> None:
    import cProfile
    import pstats
    import sys

    profile = cProfile.Profile()
    profile.runcall(run_all, numbers)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
