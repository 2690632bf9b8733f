"""What holds a figure, in a sentence, by program and figure: the only words of docs/12-speed.md that are not made from records."""

_CPU = (
    "The client's CPU: half of it is the openai SDK with its HTTP client, a quarter (on disk) the call cache's files and the threads"
    " that write them. Not by a margin: it moves with what else the machine does, and a run before the"
    " last changes gave 2.3."
)

REMARKS = {
    "rollout_engine.efficiency": (
        "CPU: at 1 s of latency 256 calls in flight ask for 256 times the CPU of one in each second, and both cores were shared with other"
        " work (the load stands below). Sending the first wave is lost once; answers that come while others are handled wait. The bare SDK"
        " loses more, DSPy has at most 100 calls in flight. Earlier runs of the day gave .80 to .86."
    ),
    "rollout_engine.over-dspy": _CPU,
    "rollout_engine.over-dspy-uncached": _CPU,
    "preference_labels.runs-per-correct-pair": (
        "Most of it is the rule that a gap within the noise makes no pair, and components that are not run again; racing adds little at"
        " 4 rollouts. Beside the plain procedure with that same rule, ours takes about .6 of its runs."
    ),
    "local_generation.over-one-at-a-time": (
        "One thread: reading a prompt is as much work in a batch as alone, and nine tenths of the tokens are prompt; what is gained"
        " there is the shared beginning. Decoding alone gains as much as transformers' own batch does. About the target, no more: another"
        " run of the same day gave 5.85."
    ),
    "overhead.outside": (
        "Seconds that do not grow with the run: starting Python with torch and transformers and checking the models before the first call,"
        " matplotlib and the report after the last."
    ),
}
