"""A compound system of two steps: a language model writes a query, a tool looks it up, a language model answers."""

from optimas_core import CompoundSystem, Local, NumberGrid, PromptSpace, component, llm
from optimas_core.metrics import token_f1

FACTS = [
    "The Danube rises in the Black Forest and flows into the Black Sea.",
    "The Rhine rises in the Swiss Alps and flows into the North Sea.",
    "The Rhone rises in the Swiss Alps and flows into the Mediterranean Sea.",
    "The Po rises in the Cottian Alps and flows into the Adriatic Sea.",
    "The Elbe rises in the Giant Mountains and flows into the North Sea.",
    "The Loire rises in the Massif Central and flows into the Atlantic Ocean.",
    "The Ebro rises in the Cantabrian Mountains and flows into the Mediterranean Sea.",
    "The Vistula rises in the Beskids and flows into the Baltic Sea.",
    "The Volga rises in the Valdai Hills and flows into the Caspian Sea.",
    "The Dnieper rises in the Valdai Hills and flows into the Black Sea.",
]


def look_up(question: str, count: int = 3) -> str:
    """The facts that share most words with the question."""
    words = set(question.lower().strip("?").split())
    ranked = sorted(FACTS, key=lambda fact: -len(words & set(fact.lower().strip(".").split())))
    return " ".join(ranked[:count])


def f1(example: dict, outputs: dict) -> float:
    return token_f1(outputs["answer"] or "", example["answer"])


def build() -> CompoundSystem:
    # Any model does: OpenAI("gpt-4o-mini"), Anthropic("…"), OpenAICompatible("…", base_url="http://…/v1").
    model = Local("smollm2-135m-instruct")
    lookup = component(look_up, outputs="context", space={"count": NumberGrid(1, 2, 3, 5)}, blocking=False)
    answerer = llm(
        "answerer",
        inputs=["context", "question"],
        output="answer",
        model=model,
        prompt="Answer the question from the context in a few words.",
        max_tokens=16,
        single_line=True,
        space={"prompt": PromptSpace(), "max_tokens": NumberGrid(6, 16)},
    )
    return CompoundSystem([lookup, answerer], outputs=["answer"], metric=f1, name="rivers")
