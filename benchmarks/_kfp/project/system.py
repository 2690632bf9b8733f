"""A look-up table and a scripted model, the model behind an endpoint of the cluster that counts what it is asked (endpoint.py)."""

import re
from pathlib import Path

from optimas_core import CompoundSystem, NumberGrid, PromptSpace, component, llm
from optimas_core.metrics import token_f1
from optimas_core.models import OpenAICompatible, Price

ENDPOINT = (Path(__file__).parent / "endpoint.txt").read_text(encoding="utf-8").strip()


def facts(question: str, k: int = 1) -> str:
    """The fact asked for stands at place 1 or 2 of the table: k = 1 misses every third one."""
    number = int(re.findall(r"\d+", question)[0])
    found = [f"Item {number + 100} is red.", f"Item {number} is green{number}."]
    return " ".join((found if number % 3 == 0 else found[::-1])[:k])


def f1(example, outputs):
    return token_f1(outputs["answer"] or "", example["answer"])


def build():
    client = OpenAICompatible("scripted", ENDPOINT, api_key_env="OPTIMAS_LLM_KEY", price=Price(1.0, 2.0))
    lookup = component(facts, name="lookup", outputs="context", space={"k": NumberGrid(1, 2)}, blocking=False)
    answerer = llm(
        "answerer",
        inputs=["context", "question"],
        output="answer",
        model=client,
        prompt="Answer the question.",
        temperature=0.5,
        max_tokens=32,
        space={"prompt": PromptSpace()},
    )
    return CompoundSystem([lookup, answerer], outputs=["answer"], metric=f1, name="colours")
