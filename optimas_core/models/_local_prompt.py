"""From a request to token ids, so that no text of a message can end its turn or begin another.

A tokenizer reads a chat template's own marks ("<|im_end|>") wherever they stand. In the template they are meant; in a question,
a passage or an answer they are text, and are encoded letter by letter. A raw prompt is text from end to end.
"""

from __future__ import annotations

import re
from typing import Any

from optimas_core.models._types import Message, ModelRequest

# Stands for message i while the template is rendered: private-use characters, which no template writes.
_PLACE = "\ue0f0{}\ue0f1"
_PLACES = re.compile("\ue0f0(\\d+)\ue0f1")


def prompt_tokens(tokenizer: Any, request: ModelRequest) -> list[int]:
    """The ids that the model is given.

    Raises:
        Exception: whatever the template raises, which is the model's own code.
        ValueError: a message holds the template's marks and the template does not show every message once, as it is.
    """
    if request.prompt is not None:
        return list(tokenizer(request.prompt, split_special_tokens=True)["input_ids"])
    marks = {str(mark) for mark in (*tokenizer.all_special_tokens, *tokenizer.get_added_vocab())}
    if not any(mark in message.content for message in request.messages for mark in marks):
        return list(tokenizer(_rendered(tokenizer, request.messages), add_special_tokens=False)["input_ids"])
    places = tuple(Message(message.role, _PLACE.format(index)) for index, message in enumerate(request.messages))
    template, *rest = _PLACES.split(_rendered(tokenizer, places))
    shown, between = rest[::2], rest[1::2]
    if shown != [str(index) for index in range(len(places))]:
        raise ValueError("a message holds the template's own marks, and the template does not show each message once")
    tokens = list(tokenizer(template, add_special_tokens=False)["input_ids"])
    for message, after in zip(request.messages, between, strict=True):
        tokens += tokenizer(message.content, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        tokens += tokenizer(after, add_special_tokens=False)["input_ids"]
    return tokens


def _rendered(tokenizer: Any, messages: tuple[Message, ...]) -> str:
    text: str = tokenizer.apply_chat_template([message.to_json() for message in messages], tokenize=False, add_generation_prompt=True)
    return text
