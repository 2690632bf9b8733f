"""Keys are planted in everything a run could repeat, and then everything that it wrote is searched for them, in any form.

A whole project over loopback HTTP and a real S3 server, each command a process of its own with a home and a temporary directory of its
own. The endpoint answers as a careless proxy does: it repeats the key in its headers and in every error. The user's code is as careless:
it prints keys, raises exceptions with keys in them and starts threads that do.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from optimas_core.errors import EnvironmentNotReady
from optimas_core.models.embedded import embedded_path

# Runs in the forked process: `optimas` with a directory, a standard output and a temporary directory of its own.
START = """
import os
import sys
import tempfile

directory, output, *arguments = sys.argv[1:]
os.chdir(directory)
os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
tempfile.tempdir = None
sys.argv = ["optimas", *arguments]

from optimas_core.cli import main

main()
"""
SYSTEM = """
import base64
import os
import re
import sys
import threading
from urllib.parse import quote

from optimas_core import Anthropic, CompoundSystem, NumberGrid, OpenAI, OpenAICompatible, PromptSpace, component, llm
from optimas_core.errors import FormatError
from optimas_core.metrics import token_f1

NAMES = os.environ["PLANTED_NAMES"].split()
URL = os.environ["ENDPOINT_URL"]
proposer = Anthropic("proposer", base_url=URL.removesuffix("/v1"), backoff_base_s=0.01)


def facts(question: str, k: int = 1) -> str:
    number = int(re.findall(r"\\d+", question)[0])
    if number % 9 == 4:
        raise RuntimeError("no entry for " + " ".join(os.environ[name] for name in NAMES))
    if number % 9 == 7:
        raise FormatError("not in the form of " + " ".join(os.environ[name] for name in NAMES))
    if number % 9 == 6:
        for name in NAMES:
            key = os.environ[name]
            print("printed", key, quote(key, safe=""))
            print("printed to stderr", key.encode().hex(), base64.b64encode(f"user:{key}".encode()).decode(), file=sys.stderr)
    if number % 9 == 5:
        def fail():
            raise RuntimeError("in a thread with " + " ".join(os.environ[name] for name in NAMES))
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    found = [f"Item {number + 100} is red.", f"Item {number} is green{number}."]
    return " ".join((found if number % 3 == 0 else found[::-1])[:k])


def f1(example, outputs):
    return token_f1(outputs["answer"] or "", example["answer"])


building = False


class Careless(PromptSpace):
    def check(self, value, where):
        if os.environ.get("FAIL") == "while it is built" or os.environ.get("FAIL") == "afterwards" and not building:
            raise ZeroDivisionError("a defect with " + " ".join(os.environ[name] for name in NAMES))
        return super().check(value, where)


def build():
    global building
    building = True
    lookup = component(facts, name="lookup", outputs="context", space={"k": NumberGrid(1, 2)}, blocking=False)
    options = {"temperature": 0.5, "max_tokens": 32, "deadline_s": 30.0}
    hinter = llm("hinter", inputs=["question"], output="hint", prompt="Hint.", **options,
                 model=OpenAI("hinter", base_url=URL, backoff_base_s=0.01))
    answerer = llm("answerer", inputs=["context", "question", "hint"], output="answer", prompt="Answer the question.", **options,
                   model=OpenAICompatible("answerer", base_url=URL, api_key_env="GATEWAY_LOGIN", backoff_base_s=0.01),
                   space={"prompt": Careless()})
    system = CompoundSystem([lookup, hinter, answerer], outputs=["answer"], metric=f1, name="planted")
    building = False
    return system
"""
SPEC: dict[str, Any] = {
    "system": "system:build",
    "data": {"source": "examples.jsonl", "split": {"train": 16, "validation": 24, "test": 18, "seed": 0}},
    "name": "planted",
    "concurrency": 8,
    "preferences": {"examples": 6, "candidates": 2, "rollouts": 1},
    "optimizers": {"candidates": 1, "search_inputs": 6, "fresh_inputs": 4, "opro_model": "proposer"},
    "acceptance": {"kind": "paired_sequential", "first_look": 8, "alpha": 0.3},
    "schedule": {"iterations": 2, "selection": {"kind": "round_robin"}},
}


@dataclass
class Endpoint:
    """Answers in both protocols. `deny` is a status that every call gets; else each seventh call fails with 429 or 500, once."""

    deny: int = 0
    seen: set[str] = field(default_factory=set)
    echoed: int = 0
    calls: int = 0
    url: str = ""

    def answer(self, path: str, body: dict[str, Any]) -> str:
        turns = body.get("messages", ())
        text = "\n".join([str(body.get("system") or ""), str(body.get("prompt") or ""), *(str(turn["content"]) for turn in turns)])
        if body["model"] == "proposer":
            return "<instruction>\nName the colour, nothing else.\n</instruction>"
        asked = re.findall(r"colour of item (\d+)", text)[-1]
        known = re.findall(rf"Item {asked} is (\w+)\.", text)
        answer = known[-1] if known else "unknown"
        return (
            answer
            if "nothing else" in text or "prompt" in body or body["model"] == "hinter"
            else f"well, as far as I can see it is {answer}"
        )


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            model = self.path.rpartition("/")[2]
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ("hinter", "answerer")]
            self.reply(state.deny or 200, {"id": model, "type": "model"} if model == "proposer" else {"object": "list", "data": listed})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.calls += 1
            if state.deny:
                return self.reply(state.deny, {})
            if state.calls % 7 == 3:
                return self.reply(429 if state.calls % 2 else 500, {})
            text = state.answer(self.path, body)
            if self.path.endswith("/messages"):
                found: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": "proposer", "stop_sequence": None}
                found |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
                return self.reply(200, found | {"usage": {"input_tokens": 50, "output_tokens": 9}})
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, "refusal": None}}
            choice = {"index": 0, "finish_reason": "stop", "text": text} if "prompt" in body else choice
            kind = "text_completion" if "prompt" in body else "chat.completion"
            found = {"id": "c", "object": kind, "created": 0, "model": body["model"], "choices": [choice]}
            return self.reply(200, found | {"usage": {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}})

        def reply(self, status: int, body: dict[str, Any]) -> None:
            key = self.headers.get("x-api-key") or (self.headers.get("authorization") or "").removeprefix("Bearer ")
            state.seen.add(key)
            if status != 200:
                state.echoed += 1
                said = f"you sent {key}, Authorization: Bearer {key}, {quote(key, safe='')}, "
                said += f"{base64.b64encode(f'user:{key}'.encode()).decode()} and {key.encode().hex()}"
                body = {"type": "error", "error": {"type": "x", "message": said, "code": key}}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("x-echo-authorization", f"Bearer {key}")
            self.send_header("set-cookie", f"session={base64.b64encode(key.encode()).decode()}")
            if status != 200:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield state
        server.shutdown()


def forms_of(secret: str) -> set[bytes]:
    """What would betray a secret: any twelve characters of it, and all of it escaped, in hexadecimal or inside base64."""
    raw = secret.encode()
    found = {raw[start : start + 12] for start in range(max(1, len(raw) - 11))}
    found |= {quote(secret, safe="").encode(), raw.hex().encode(), json.dumps(secret)[1:-1].encode(), html.escape(secret).encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            found.add(encode(b"\0" * before + raw)[4:-4])  # without the groups that its neighbours are in
    return found


def texts_in(name: str, data: bytes) -> Iterator[bytes]:
    """The bytes, and of a table every cell."""
    yield name.encode()
    yield data
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        for row in pq.read_table(io.BytesIO(data)).to_pylist():
            yield repr(row).encode()


@dataclass
class Place:
    """Where the commands run and what they said; `secrets` by the name of their variable. `zygote` starts the commands."""

    zygote: Any
    folder: Path
    bucket: str
    environment: dict[str, str]
    secrets: dict[str, str]
    said: dict[str, bytes] = field(default_factory=dict)

    def project(self, name: str, **sections: Any) -> Path:
        directory = self.folder / name
        directory.mkdir()
        (directory / "system.py").write_text(SYSTEM)
        rows = [{"id": f"e{n}", "question": f"What is the colour of item {n}?", "answer": f"green{n}"} for n in range(1, 60)]
        (directory / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
        lrf = {"rung": "frozen", "backbone": str(embedded_path("all-minilm-l6-v2"))}
        spec = SPEC | {"workspace": f"s3://{self.bucket}/{name}", "lrf": lrf} | sections
        (directory / "run.yaml").write_text(yaml.safe_dump(spec))
        return directory / "run.yaml"

    def optimas(self, *arguments: object, code: int = 0, **environment: str) -> str:
        """Runs `optimas *arguments` and returns what it wrote to stdout."""
        beside = self.folder.parent
        out, err = beside / "stdout", beside / "stderr"
        out.write_bytes(b"")
        err.write_bytes(b"")
        words = [self.folder / "cwd", out, *arguments]
        ended = self.zygote.run(words, output=err, script=str(beside / "start.py"), environment=self.environment | environment)
        self.said[f"{len(self.said)} {' '.join(map(str, arguments))}"] = out.read_bytes() + b"\n--stderr--\n" + err.read_bytes()
        assert ended == code, (arguments, ended, out.read_text()[-1500:], err.read_text()[-3000:])
        return out.read_text()

    def everything(self, client: Any) -> Iterator[tuple[str, bytes]]:
        yield from self.said.items()
        yield from ((str(path), path.read_bytes()) for path in sorted(self.folder.rglob("*")) if path.is_file())
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        for key in [item["Key"] for page in pages for item in page.get("Contents", ())]:
            yield key, client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


@pytest.fixture
def place(tmp_path: Path, chaos: tuple[Any, Path], s3_environment: Any, s3_bucket: str, endpoint: Endpoint) -> Place:
    try:
        embedded_path("all-minilm-l6-v2")
    except EnvironmentNotReady as error:
        pytest.skip(str(error))
    planted = {
        "OPENAI_API_KEY": f"sk-proj-{secrets.token_urlsafe(24)}",
        "ANTHROPIC_API_KEY": f"sk-ant-{secrets.token_urlsafe(24)}",
        "GATEWAY_LOGIN": f"+/{secrets.token_urlsafe(12)}=%&{secrets.token_urlsafe(9)}",  # a name and a form of no key
        "AWS_SECRET_ACCESS_KEY": s3_environment.secret_key,
        "HF_TOKEN": f"hf_{secrets.token_urlsafe(20)}",
    }
    folder = tmp_path / "world"
    for name in ("home", "tmp", "cwd"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "start.py").write_text(START)
    environment = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "HF_HUB_OFFLINE": "1",
        "AWS_ACCESS_KEY_ID": s3_environment.access_key,
        "AWS_ENDPOINT_URL": s3_environment.endpoint_url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "ENDPOINT_URL": endpoint.url,
        "PLANTED_NAMES": " ".join(planted),
    }
    return Place(chaos[0], folder, s3_bucket, environment | planted, planted)


def search(place: Place, client: Any, more: dict[str, str]) -> int:
    """Fails with the name of the secret and of the place; returns how many texts were searched."""
    forms = {name: forms_of(value) for name, value in (place.secrets | more).items()}
    searched = 0
    for where, data in place.everything(client):
        for text in texts_in(where, data):
            searched += 1
            for name, betrayals in forms.items():
                found = next((form for form in betrayals if form in text), None)
                around = text[max(0, text.find(found) - 200) : text.find(found) + 60] if found else b""
                assert found is None, f"{name} stands in {where}: …{around!r}…"
    return searched


def test_the_search_finds_every_form() -> None:
    secret = "+/a0b1c2d3e4f5g6h7i8=%&j9"
    for text in (
        secret,
        f"cut off after {secret[:13]}",
        quote(secret, safe=""),
        secret.encode().hex(),
        *(base64.b64encode((before + secret + "tail").encode()).decode() for before in ("", "u", "us", "user:")),
        base64.urlsafe_b64encode(f"x:{secret}".encode()).decode(),
    ):
        assert any(form in text.encode() for form in forms_of(secret)), text


def test_no_key_is_written_anywhere(place: Place, endpoint: Endpoint, s3_environment: Any) -> None:
    path = place.project("good")
    workspace = f"s3://{place.bucket}/good"
    client = s3_environment.client()

    place.optimas("doctor", path)
    place.optimas("estimate", path, "--json")
    verdict = json.loads(place.optimas("run", path, "--json").splitlines()[-1])  # the user's own prints stand above it
    assert endpoint.seen >= {place.secrets[name] for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GATEWAY_LOGIN")}
    assert endpoint.echoed > 20, "errors that repeated the key were met and retried"
    status = json.loads(place.optimas("status", workspace, "--json"))
    assert status[0]["phase"] == "finished"
    report = json.loads(place.optimas("report", workspace, "planted", "--json", "-o", place.folder / "report"))
    assert verdict["verdict"] == report["verdict"]
    assert "no entry for [key]" in json.dumps(report), "the component's exception was met, and is told without what it quoted"
    warm = json.loads(client.get_object(Bucket=place.bucket, Key="good/runs/planted/state/000001.json")["Body"].read())["state"]
    preferences = [warm["preferences"][component][0] for component in ("lookup", "answerer")]  # the system's order is part of the name
    (path.parent / "request.json").write_text(json.dumps({"preferences": preferences}))
    assert place.optimas("stage", "train-lrf", path, "--request", path.parent / "request.json").strip() == warm["lrf"]
    place.optimas("diff", workspace, "planted")

    searched = search(place, client, {})
    assert searched > 500, "calls, states, ledger, tables row by row, reports"
    said, _, complained = next(said for name, said in place.said.items() if " run " in name).partition(b"\n--stderr--\n")
    assert b"printed [key] [key]" in said and b"printed to stderr [key]" in complained, "what the user's code printed is shown"
    assert b"in a thread with [key]" in complained, "and what a thread of the user's died of"


def test_no_key_is_written_when_a_run_fails(place: Place, endpoint: Endpoint, s3_environment: Any) -> None:
    """Refused, denied, a defect with a traceback, no storage, credentials at a wrong place: each ends with a text, none with a key."""
    client = s3_environment.client()
    endpoint.deny = 401
    denied = place.project("denied")
    place.optimas("doctor", denied, code=2)
    place.optimas("run", denied, "--skip-checks", code=1)
    endpoint.deny = 400
    refused = place.project("refused")
    place.optimas("run", refused, code=2)
    endpoint.deny = 0
    assert endpoint.echoed > 3
    defect = place.project("defect")
    place.optimas("run", defect, code=2, FAIL="while it is built")
    assert b"a defect with [key]" in list(place.said.values())[-1]
    place.optimas("run", defect, code=1, FAIL="afterwards")
    assert b"Traceback" in list(place.said.values())[-1] and b"a defect with [key]" in list(place.said.values())[-1]

    more = {"AWS_SESSION_TOKEN": f"IQoJ{secrets.token_urlsafe(60)}", "WRONG": secrets.token_urlsafe(30), "PASSWORD": secrets.token_hex(12)}
    place.optimas("run", denied, code=2, AWS_SESSION_TOKEN=more["AWS_SESSION_TOKEN"], AWS_SECRET_ACCESS_KEY=more["WRONG"])
    place.optimas("status", f"s3://AKIAX:{more['PASSWORD']}@{place.bucket}/x", code=2)
    place.optimas("status", f"s3://{place.bucket}/x?X-Amz-Security-Token={more['PASSWORD']}", code=2)
    closed = f"http://user:{more['PASSWORD']}@127.0.0.1:9"
    place.optimas("status", f"s3://{place.bucket}/x", code=2, AWS_ENDPOINT_URL=closed)
    url = endpoint.url.replace("//", f"//user:{more['PASSWORD']}@")
    endpoint.deny = 403
    place.optimas("doctor", denied, code=2, ENDPOINT_URL=url)
    # The arguments of a command are the user's own words; they are not what it wrote.
    place.said = {str(number): said for number, said in enumerate(place.said.values())}
    assert search(place, client, more) > 15
