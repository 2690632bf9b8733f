"""A language-model call as a component: prompt, model and decoding parameters are its knobs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optimas_core.canonical import canonical_json, digest
from optimas_core.errors import FormatError, SystemDefinitionError
from optimas_core.models._types import Message, ModelClient, ModelRequest, Sampling
from optimas_core.system import CallContext, Component, ModelChoice, Prompt, Space, WorstCase, code_identity, condition

_TEMPLATE_VERSION = 1
_FENCE = re.compile(r"^\s*```[a-zA-Z]*\s*\n(.*?)\n?```\s*$", re.DOTALL)


def llm(
    name: str,
    *,
    inputs: Sequence[str],
    output: str | Sequence[str],
    model: ModelClient | Sequence[ModelClient],
    prompt: Prompt | str,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 256,
    stop: Sequence[str] = (),
    single_line: bool = False,
    parse: Callable[[str], Any] | None = None,
    space: Mapping[str, Space] | None = None,
    when: Callable[..., bool] | None = None,
    otherwise: Mapping[str, Any] | None = None,
    deadline_s: float = 120.0,
) -> Component:
    """A component that asks a language model.

    Its knobs are `prompt`, `model`, `temperature`, `top_p`, `max_tokens` and `adapter`; those named in `space` are optimizable.

    Args:
        inputs: fields shown to the model, in this order.
        output: the field it writes: the reply's text, stripped. With several, the reply must be one JSON object of those keys.
        model: a client; of several the first is the starting one, and `space={"model": ModelChoice(…)}` chooses among their ids.
        prompt: a Prompt, or the text of an instruction.
        single_line: keep the first line only and stop generating there.
        parse: turns the text into the value of the one output. Where it cannot (ValueError, LookupError, or what a regular
            expression without a match leads to) the reply is a FormatError: a result, scored lowest, never retried.
        space: knob name to space.
        deadline_s: bound of one call, retries included.

    Raises:
        SystemDefinitionError: no model, two models with one id, a space for a knob or a model it does not have, `parse` with
            several outputs.

    Example:
        >>> llm("answerer", inputs=["question", "passages"], output="answer", model=small,
        ...     prompt="Answer with a few words.", max_tokens=24, space={"prompt": PromptSpace()})
    """
    given: Sequence[ModelClient] = model if isinstance(model, Sequence) else (model,)
    clients = {client.id: client for client in given}
    if not clients or len(clients) != len(given):
        raise SystemDefinitionError(f"component {name!r} needs at least one model, each with its own id.", remedy="Check `model`.")
    outputs = (output,) if isinstance(output, str) else tuple(output)
    start = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
    defaults: dict[str, Any] = {
        "prompt": start.to_json(),
        "model": next(iter(clients)),
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "adapter": None,
    }
    spaces = dict(space or {})
    for knob in spaces:
        if knob not in defaults:
            raise SystemDefinitionError(
                f"component {name!r} has no knob {knob!r}.", remedy=f"A language model's knobs are {sorted(defaults)}."
            )
    choice = spaces.get("model")
    unknown = [item for item in choice.values if item not in clients] if isinstance(choice, ModelChoice) else []
    if unknown:
        raise SystemDefinitionError(
            f"component {name!r} may choose the model {unknown[0]!r}, which it was not given.",
            remedy=f"Add its client to `model`; given are {list(clients)}.",
        )
    if parse is not None and len(outputs) > 1:
        raise SystemDefinitionError(
            f"component {name!r} has `parse` and several outputs.",
            remedy="Several outputs are read from one JSON object: drop `parse`.",
        )

    def request(values: Mapping[str, Any], knobs: Mapping[str, Any], seed: int | None) -> ModelRequest:
        return _request(Prompt.from_json(knobs["prompt"]), values, outputs, knobs, tuple(stop), single_line, seed, deadline_s)

    async def body(values: Mapping[str, Any], knobs: Mapping[str, Any], context: CallContext) -> Mapping[str, Any]:
        shown = {field: values[field] for field in inputs}
        seed = context.seed if knobs["temperature"] > 0 else None
        reply = await context.complete(clients[knobs["model"]], request(shown, knobs, seed))
        return _parsed(reply.text, outputs, single_line, parse, name)

    def worst_case(values: Mapping[str, Any], knobs: Mapping[str, Any]) -> WorstCase:
        client = clients[knobs["model"]]
        asked = request({field: values[field] for field in inputs}, knobs, None)
        text = asked.prompt if asked.prompt is not None else "\n".join(message.content for message in asked.messages)
        tokens_in = client.count_tokens(text) + 16 * (1 + len(asked.messages))  # a chat template's own tokens
        price = client.price
        usd = price.usd(tokens_in, knobs["max_tokens"]) if price else None
        return WorstCase(tokens_in + int(knobs["max_tokens"]), usd)

    return Component(
        name=name,
        inputs=tuple(inputs),
        outputs=outputs,
        body=body,
        defaults=defaults,
        space=spaces,
        deterministic=lambda knobs: _temperatures(knobs["temperature"]) == {0.0},
        when=condition(when) if when else None,
        otherwise=dict(otherwise or {}),
        fingerprint=digest(
            [
                "llm",
                _TEMPLATE_VERSION,
                list(inputs),
                list(outputs),
                list(stop),
                single_line,
                code_identity(parse) if parse else "",
            ]
        ),
        kind="llm",
        clients=tuple(clients.values()),
        worst_case=worst_case,
        explore=lambda knobs, heat: {**knobs, "temperature": heat},
    )


def _temperatures(value: Any) -> set[float]:
    """The temperature, or all it may be where it is chosen for each input."""
    return {float(item) for item in value["per_input"]} if isinstance(value, Mapping) else {float(value)}


def _request(
    prompt: Prompt,
    values: Mapping[str, Any],
    outputs: tuple[str, ...],
    knobs: Mapping[str, Any],
    stop: tuple[str, ...],
    single_line: bool,
    seed: int | None,
    deadline_s: float,
) -> ModelRequest:
    label = outputs[0] if len(outputs) == 1 else "json"
    stops = (*stop, "\n") if single_line else (*stop, *(("\n\n",) if prompt.format == "completion" else ()))
    sampling = Sampling(
        temperature=float(knobs["temperature"]),
        top_p=float(knobs["top_p"]),
        max_tokens=int(knobs["max_tokens"]),
        stop=stops,
        seed=seed % 2**31 if seed is not None else None,
    )
    if len(outputs) > 1:
        keys = ", ".join(outputs)
        instruction = f"{prompt.instruction}\nReply with one JSON object with the keys: {keys}.".lstrip()
        prompt = Prompt(instruction, prompt.format, prompt.demonstrations)
    if prompt.format == "completion":
        return ModelRequest(prompt=prompt.text(values, label), sampling=sampling, adapter=knobs["adapter"], deadline_s=deadline_s)
    messages = tuple(Message(role, content) for role, content in prompt.messages(values, label))  # type: ignore[arg-type]
    return ModelRequest(messages=messages, sampling=sampling, adapter=knobs["adapter"], deadline_s=deadline_s)


def _parsed(text: str, outputs: tuple[str, ...], single_line: bool, parse: Callable[[str], Any] | None, name: str) -> dict[str, Any]:
    body = text.strip()
    if single_line:
        body = next((line.strip() for line in body.splitlines() if line.strip()), "")
    if len(outputs) == 1:
        if parse is None:
            return {outputs[0]: body}
        try:
            return _finite({outputs[0]: parse(body)}, name)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise FormatError(f"component {name!r} could not parse a reply: {error}.") from None
    fenced = _FENCE.match(body)
    try:
        data = json.loads(fenced.group(1) if fenced else body)
    except (ValueError, RecursionError):
        raise FormatError(f"component {name!r} got a reply that is not one JSON object.") from None
    missing = [key for key in outputs if not isinstance(data, dict) or key not in data]
    if missing:
        raise FormatError(f"component {name!r} got a reply without the key {missing[0]!r}.")
    return _finite({key: data[key] for key in outputs}, name)


def _finite(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A model that writes "nan" or 1e999 answered in another form: its reply must not stop the run."""
    try:
        canonical_json(values)
    except ValueError:
        raise FormatError(f"component {name!r} got a reply with a number that is not finite.") from None
    except TypeError:
        pass  # `parse` made something JSON cannot hold: the user's mistake, which the engine reports
    return values
