"""OPRO, demonstrations and edits on made-up observations."""

import asyncio
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from optimas_core.models import Scripted, llm
from optimas_core.models.scripted import Rejected, ServerError, VirtualClock
from optimas_core.optimizers import Attempt, Demonstrations, Edits, Observation, Opro, Situation, parse_proposals
from optimas_core.system import CallContext, Component, Prompt, PromptSpace

TEXT = st.text(alphabet=string.ascii_letters + "äß .,;*#-\n\t\"'\\{}", min_size=1, max_size=300)


def answerer(space: PromptSpace | None = None, prompt: Prompt | str = "Answer.") -> Component:
    return llm(
        "answerer", inputs=["context", "question"], output="answer", model=Scripted([]), prompt=prompt,
        space={"prompt": space or PromptSpace()},
    )  # fmt: skip


def situation(observations: list[Observation] | None = None, item: Component | None = None, **more: Any) -> Situation:
    item = item or answerer()
    return Situation(item, "prompt", dict(item.defaults), observations or [], **more)


def seen(number: int, reward: float, answer: str = "") -> Observation:
    inputs = {"context": "c" * (number + 1), "question": f"q{number}"}
    return Observation(f"e{number}", inputs, {"answer": answer or f"a{number}"}, reward)


@given(TEXT)
def test_a_tagged_proposal_survives_byte_exact(text: str) -> None:
    wanted = [text] if text.strip() else []
    assert parse_proposals(f"Here:\n<instruction>\n{text}\n</instruction>\nbye") == wanted
    assert parse_proposals(f"```text\n{text}\n```") == wanted
    assert parse_proposals(text) == ([text.strip()] if text.strip() else [])


@given(st.lists(TEXT.filter(str.strip), min_size=1, max_size=4))
def test_every_tagged_proposal_is_found_in_order(texts: list[str]) -> None:
    assert parse_proposals(" and ".join(f"<instruction>\n{text}\n</instruction>" for text in texts)) == texts


def test_a_fence_inside_a_tag_stays() -> None:
    inner = "Reply as\n```json\n{}\n```\nand stop."
    assert parse_proposals(f"<instruction>\n{inner}\n</instruction>") == [inner]


def test_what_was_cut_off_takes_everything_behind_its_opening() -> None:
    assert parse_proposals("So:\n<instruction>\nDo this.\n\nThen that") == ["Do this.\n\nThen that"]
    assert parse_proposals("```text\nDo this.\nThen that") == ["Do this.\nThen that"]
    assert parse_proposals("<instruction>\n \n</instruction>") == parse_proposals("  \n ") == []


def ask(model: Any, now: Situation) -> list[Any]:
    return asyncio.run(Opro(model, CallContext(0)).propose(now))


def test_opro_shows_history_ascending_the_incumbent_failures_and_a_success() -> None:
    asked: list[str] = []

    def script(request: Any, attempt: int) -> str:
        asked.append(request.messages[0].content)
        return "<instruction>\nBe brief.\n</instruction>"

    attempts = [
        Attempt({"prompt": Prompt(text).to_json()}, score)
        for text, score in [("best", 0.9), ("worst", 0.1), ("middle", 0.5), ("new", None)]
    ]
    now = situation([seen(1, 0.0), seen(2, 1.0)], answerer(prompt="The incumbent."), attempts=attempts, count=2)
    found = ask(Scripted(script), now)
    assert [item.values["prompt"]["instruction"] for item in found] == ["Be brief."], "two equal replies are one proposal"
    text = asked[0]
    assert text.index("\nworst\n") < text.index("\nmiddle\n") < text.index("\nbest\n") < text.index("The incumbent.")
    assert "\nnew\n" not in text, "never scored"
    assert text.index("result answer: a1") < text.index("this one was good") < text.index("result answer: a2")


def test_opro_never_proposes_the_incumbent_and_bounds_the_length() -> None:
    replies = iter(["Answer.", "x" * 50, "Short."])
    now = situation(item=answerer(PromptSpace(max_instruction_chars=20)), count=3)
    found = ask(Scripted(lambda request, attempt: next(replies)), now)
    assert [item.values["prompt"]["instruction"] for item in found] == ["Short."]


def test_opro_without_an_answer_is_one_proposal_fewer() -> None:
    """Neither an outage nor a meta-prompt the model rejects (too long, say) ends the run."""
    steps = {0: Rejected(400), 1: "Good."}
    count = iter(range(10))
    found = ask(Scripted(lambda request, attempt: steps[next(count)]), situation(count=2))
    assert [item.values["prompt"]["instruction"] for item in found] == ["Good."]
    down = Scripted(lambda request, attempt: ServerError(503), clock=VirtualClock())
    assert ask(down, situation(count=1)) == []


def test_opro_leaves_a_fixed_instruction_alone() -> None:
    model = Scripted(["never"])
    assert ask(model, situation(item=answerer(PromptSpace(instruction=False)))) == [] and model.calls == 0


def demonstrations(now: Situation) -> list[Prompt]:
    return [Prompt.from_json(item.values["prompt"]) for item in asyncio.run(Demonstrations().propose(now))]


def test_demonstrations_are_several_subsets_of_well_rewarded_outputs_of_its_own() -> None:
    observations = [seen(number, float(number % 2)) for number in range(12)] + [seen(3, 0.2, "bad")]
    found = demonstrations(situation(observations, count=8))
    assert len(found) == 8
    shown = {(item.inputs["question"], item.output) for prompt in found for item in prompt.demonstrations}
    assert shown <= {(f"q{number}", f"a{number}") for number in range(1, 12, 2)}, "only rewarded ones, only its own outputs"
    orders = {tuple(item.output for item in prompt.demonstrations) for prompt in found}
    assert len(orders) > 3 and {len(order) for order in orders} >= {2, 3}
    assert all(len(set(order)) == len(order) <= 3 for order in orders)
    assert {prompt.format for prompt in found} == {"chat", "completion"}
    assert found == demonstrations(situation(observations, count=8)), "a function of the situation's seed"
    assert found != demonstrations(situation(observations, count=8, seed=1))


def test_no_demonstrations_where_nothing_did_well_or_none_are_allowed() -> None:
    assert demonstrations(situation([seen(number, 0.5) for number in range(5)])) == []
    assert demonstrations(situation()) == []
    observations = [seen(0, 0.0), seen(1, 1.0)]
    assert demonstrations(situation(observations, answerer(PromptSpace(demonstrations=0)))) == []
    few = demonstrations(situation(observations, answerer(PromptSpace(demonstrations=3))))
    assert few and {len(prompt.demonstrations) for prompt in few} == {1}


def edits(item: Component, count: int = 20) -> list[str]:
    return [proposal.summary for proposal in asyncio.run(Edits().propose(situation(item=item, count=count)))]


def test_edits_change_the_format_first_and_stay_inside_the_space() -> None:
    assert edits(answerer())[0] == "format completion"
    assert set(edits(answerer())) == {"format completion", "brevity", "grounding", "no preamble", "stepwise"}
    shown = Prompt("Answer.", "chat", Prompt.from_json(_with_one_demonstration()).demonstrations)
    assert {"bare", "fewer demonstrations"} <= set(edits(answerer(prompt=shown)))
    assert edits(answerer(PromptSpace(instruction=False))) == ["format completion"]
    assert edits(answerer(PromptSpace(instruction=False, formats=("chat",)))) == []
    assert len(edits(answerer(), count=2)) == 2


def _with_one_demonstration() -> dict[str, Any]:
    return {"instruction": "", "format": "chat", "demonstrations": [{"inputs": {"context": "c", "question": "q"}, "output": "a"}]}


def test_an_edit_twice_is_no_edit() -> None:
    once = asyncio.run(Edits().propose(situation(count=20)))
    brief = next(item for item in once if item.summary == "brevity").values["prompt"]
    assert "brevity" not in edits(answerer(prompt=Prompt.from_json(brief)))
