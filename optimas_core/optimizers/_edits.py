"""Edits: a documented list of changes applied to the incumbent prompt; none needs a model.

| edit | what it does |
|---|---|
| format | the same instruction and demonstrations in the other format (chat or completion) |
| brevity | asks for the shortest answer |
| grounding | asks to use only what is given |
| no preamble | forbids introductions and explanations |
| stepwise | asks to settle the answer silently before writing it |
| bare | no instruction at all |
| fewer demonstrations | drops the last one |
"""

from __future__ import annotations

import random

from optimas_core.canonical import derive_seed
from optimas_core.optimizers._proposal import Proposal, Situation, without_repeats
from optimas_core.system import Prompt, PromptSpace

SENTENCES = {
    "brevity": "Use as few words as possible.",
    "grounding": "Use only what is given here, nothing you know from elsewhere.",
    "no preamble": "Write the result itself, with no introduction and no explanation.",
    "stepwise": "Settle on the result before you write, then write it once.",
}


class Edits:
    """Proposes edits of the incumbent, in an order drawn from the situation's seed; a change of format comes first, because it
    moved the embedded model most (docs/01-quickstart.md)."""

    async def propose(self, situation: Situation) -> list[Proposal]:
        space = situation.component.space[situation.knob]
        if not isinstance(space, PromptSpace):
            return []
        prompt = Prompt.from_json(situation.knobs[situation.knob])
        first = [(f"format {name}", _with_format(prompt, name)) for name in space.formats if name != prompt.format]
        rest: list[tuple[str, Prompt]] = []
        if space.instruction:
            rest += [(name, _with_sentence(prompt, text)) for name, text in SENTENCES.items() if text not in prompt.instruction]
            if prompt.instruction and prompt.demonstrations:
                rest.append(("bare", Prompt("", prompt.format, prompt.demonstrations)))
        if prompt.demonstrations:
            rest.append(("fewer demonstrations", Prompt(prompt.instruction, prompt.format, prompt.demonstrations[:-1])))
        random.Random(derive_seed("edits", situation.seed)).shuffle(rest)
        proposals = [
            Proposal(situation.component.name, situation.knob, {situation.knob: changed.to_json()}, "edits", name)
            for name, changed in (*first, *rest)
            if changed.format in space.formats
        ]
        return without_repeats(proposals, situation.knobs)[: situation.count]


def _with_format(prompt: Prompt, name: str) -> Prompt:
    return Prompt(prompt.instruction, "completion" if name == "completion" else "chat", prompt.demonstrations)


def _with_sentence(prompt: Prompt, sentence: str) -> Prompt:
    return Prompt(f"{prompt.instruction} {sentence}".strip(), prompt.format, prompt.demonstrations)
