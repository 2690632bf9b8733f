"""A system of two steps that answers from the question itself: no network, no weights. For runs whose contents do not matter."""

import re

from optimas_core import CompoundSystem, NumberGrid, PromptSpace, Scripted, component, llm


def facts(question: str, k: int = 1) -> str:
    number = int(re.findall(r"\d+", question)[0])
    found = [f"Item {number + 100} is red.", f"Item {number} is green{number}."]
    return " ".join((found if number % 3 == 0 else found[::-1])[:k])


def reply(request, attempt):
    text = request.prompt if request.prompt is not None else request.messages[-1].content
    if text.startswith("You improve the instruction"):
        return "<instruction>\nName the colour.\n</instruction>"
    asked = re.findall(r"colour of item (\d+)", text)[-1]
    known = re.findall(rf"Item {asked} is (\w+)\.", text)
    return known[-1] if known else "unknown"


def exact(example, outputs):
    return float(outputs["answer"] == example["answer"])


def build():
    lookup = component(facts, name="lookup", outputs="context", space={"k": NumberGrid(1, 2)}, blocking=False)
    answerer = llm(
        "answerer",
        inputs=["context", "question"],
        output="answer",
        model=Scripted(reply),
        prompt="Answer the question.",
        max_tokens=16,
        space={"prompt": PromptSpace()},
    )
    return CompoundSystem([lookup, answerer], outputs=["answer"], metric=exact, name="scripted")
