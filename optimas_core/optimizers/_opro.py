"""OPRO: a chat model writes new instructions, shown earlier ones with their mean local rewards in ascending order (Yang et al., 2024)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from optimas_core.canonical import derive_seed
from optimas_core.errors import CallRejected, TemporaryError
from optimas_core.models import Message, ModelClient, ModelRequest, Sampling
from optimas_core.optimizers._proposal import Attempt, Observation, Proposal, Situation, without_repeats
from optimas_core.system import CallContext, Component, Prompt, PromptSpace

_TAGGED = re.compile(r"<instruction>\n?(.*?)\n?</instruction>", re.DOTALL)
_FENCED = re.compile(r"```[a-zA-Z]*\n(.*?)\n?```", re.DOTALL)
_OPENED = re.compile(r"\A\s*```[a-zA-Z]*\n")
_HISTORY = 8
_SHOWN = 3
_SHOWN_CHARS = 400


class Opro:
    """Asks `client` for instructions. The incumbent is shown as what it is, with failures and a success as contrast.

    Args:
        client: any chat model.
        max_tokens: bound of one reply.
        temperature: of the proposer, not of the component.
    """

    def __init__(self, client: ModelClient, context: CallContext, *, max_tokens: int = 512, temperature: float = 1.0) -> None:
        self._client = client
        self._context = context
        self._max_tokens = max_tokens
        self._temperature = temperature

    async def propose(self, situation: Situation) -> list[Proposal]:
        space = situation.component.space[situation.knob]
        if not isinstance(space, PromptSpace) or not space.instruction:
            return []
        prompt = Prompt.from_json(situation.knobs[situation.knob])
        asked = meta_prompt(situation, prompt)
        replies = await asyncio.gather(*(self._ask(asked, situation, index) for index in range(situation.count)))
        proposals: list[Proposal] = []
        for reply in replies:
            for instruction in parse_proposals(reply):
                if len(instruction) > space.max_instruction_chars:
                    continue
                changed = Prompt(instruction, prompt.format, prompt.demonstrations).to_json()
                summary = f"instruction written by {self._client.id}"
                proposals.append(Proposal(situation.component.name, situation.knob, {situation.knob: changed}, "opro", summary))
        return without_repeats(proposals, situation.knobs)[: situation.count]

    async def _ask(self, asked: str, situation: Situation, index: int) -> str:
        """One reply; empty where the model did not answer: one proposal fewer, the others and the other proposers go on."""
        seed = derive_seed("opro", situation.seed, index) % 2**31
        sampling = Sampling(temperature=self._temperature, max_tokens=self._max_tokens, seed=seed)
        try:
            reply = await self._context.complete(self._client, ModelRequest(messages=(Message("user", asked),), sampling=sampling))
        except (TemporaryError, CallRejected):  # rejected: a meta-prompt longer than a small model's context, say
            return ""
        return str(reply.text)


def parse_proposals(text: str) -> list[str]:
    """Every instruction in a reply, whole and byte-exact: tagged, else fenced, else the entire reply without outer white space.

    A proposal of many lines stays one proposal. An unclosed tag, or a fence that opens the reply and never closes, takes
    everything behind it.
    """
    tagged = _TAGGED.findall(text)
    if tagged:
        return [item for item in tagged if item.strip()]
    if "<instruction>" in text:
        rest = text.split("<instruction>", 1)[1]
        return [rest.strip("\n")] if rest.strip() else []
    fenced = _FENCED.findall(text)
    if fenced:
        return [item for item in fenced if item.strip()]
    bare = _OPENED.sub("", text).strip()
    return [bare] if bare else []


def largest_question(component: Component, knob: str, prompt: Prompt, fields: Mapping[str, str]) -> str:
    """About the longest meta-prompt for this component, before anything is known of it: for an estimate of cost.

    `fields`: texts as long as the component's inputs and outputs may be; a name that is not in it is taken to be as long as is shown.
    """
    filler = "x" * _SHOWN_CHARS
    values = {name: fields.get(name, filler) for name in (*component.inputs, *component.outputs)}
    shown = Observation("", {name: values[name] for name in component.inputs}, {name: values[name] for name in component.outputs}, 0.0)
    situation = Situation(
        component=component,
        knob=knob,
        knobs={},
        observations=(*(shown for _ in range(_SHOWN)), replace(shown, reward=1.0)),
        attempts=[Attempt({knob: {"instruction": prompt.instruction + str(index)}}, 0.0) for index in range(_HISTORY)],
    )
    return meta_prompt(situation, prompt)


def meta_prompt(situation: Situation, prompt: Prompt) -> str:
    """What the proposer is shown: the task, the history from worst to best, the incumbent, failures and a success."""
    component = situation.component
    blocks = [
        f"You improve the instruction of one step of a larger system. The step reads {', '.join(component.inputs)} and writes"
        f" {', '.join(component.outputs)}.",
    ]
    history = _history(situation.attempts, situation.knob)
    if history:
        lines = [f"score {score:.4f}:\n<instruction>\n{text}\n</instruction>" for text, score in history]
        blocks.append("Earlier instructions, from worst to best:\n" + "\n".join(lines))
    blocks.append(f"The instruction in use now:\n<instruction>\n{prompt.instruction}\n</instruction>")
    failures, successes = _contrast(situation.observations)
    if failures:
        blocks.append("These results of the step were poor:\n" + "\n".join(_shown(item) for item in failures))
    if successes:
        blocks.append("And this one was good:\n" + "\n".join(_shown(item) for item in successes))
    blocks.append(
        "Write one new instruction that is different from all of these and will score higher. Do not copy any example into it."
        " Reply with it between <instruction> and </instruction>."
    )
    return "\n\n".join(blocks)


def _history(attempts: Sequence[Attempt], knob: str) -> list[tuple[str, float]]:
    scored = {
        attempt.values[knob]["instruction"]: attempt.score for attempt in attempts if attempt.score is not None and knob in attempt.values
    }
    return sorted(scored.items(), key=lambda item: (item[1], item[0]))[-_HISTORY:]


def _contrast(observations: Sequence[Observation]) -> tuple[list[Observation], list[Observation]]:
    ordered = sorted(observations, key=lambda item: (item.reward, item.example_id))
    if not ordered:
        return [], []
    best = ordered[-1]
    worse = [item for item in ordered if item.reward < best.reward]  # what did best is no failure
    return (worse or ordered)[:_SHOWN], [best] if worse else []


def _shown(item: Observation) -> str:
    lines = [f"{name}: {str(value)[:_SHOWN_CHARS]}" for name, value in item.inputs.items()]
    lines += [f"result {name}: {str(value)[:_SHOWN_CHARS]}" for name, value in item.output.items()]
    return "\n".join([*lines, f"reward: {item.reward:.3f}"])
