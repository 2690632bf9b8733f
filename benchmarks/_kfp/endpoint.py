"""Program of a pod: a scripted model behind the OpenAI protocol. Every request that reaches it counts as paid.

POST /<label>/<milliseconds>/v1/…   answered after so long
GET  /<label>/log                   digests of the bodies asked, in the order of their coming
"""

import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "Bearer endpoint-key"
LOCK = threading.Lock()
ASKED: dict[str, list[str]] = {}


def reply(text: str, instruction: str, seed: int | None, raw: bool) -> str:
    """Talks too much in a chat; with a draw in eight it does not know. As a proposer it writes one instruction."""
    if text.startswith("You improve the instruction"):
        return "<instruction>\nName the colour,\n\nnothing else.\n</instruction>"
    if seed is not None and seed % 8 == 0:
        return "unknown"
    asked = re.findall(r"colour of item (\d+)", text)[-1]
    known = re.findall(rf"Item {asked} is (\w+)\.", text)
    answer = known[-1] if known else "unknown"
    return answer if raw or "nothing else" in instruction else f"well, as far as I can see from it the answer is {answer}"


def choice(body: dict) -> dict:
    seed = body.get("seed")
    if "prompt" in body:
        return {"text": reply(body["prompt"], "", seed, True)}
    turns = body["messages"]
    return {"message": {"role": "assistant", "content": reply(turns[-1]["content"], turns[0]["content"], seed, False), "refusal": None}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        label, _, rest = self.path.strip("/").partition("/")
        if rest == "log":
            with LOCK:
                self.answer(ASKED.get(label, []))
        else:
            self.answer({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != KEY:
            self.answer({"error": {"message": "no such key", "type": "authentication_error"}}, 401)
            return
        label, milliseconds, _ = self.path.strip("/").split("/", 2)
        with LOCK:
            ASKED.setdefault(label, []).append(hashlib.sha256(data).hexdigest()[:16])
        time.sleep(int(milliseconds) / 1000)
        body = json.loads(data)
        counted = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
        given = {"index": 0, "finish_reason": "stop", **choice(body)}
        kind = "text_completion" if "prompt" in body else "chat.completion"
        self.answer({"id": "0", "object": kind, "created": 0, "model": "scripted", "choices": [given], "usage": counted})

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    Server(("", int(sys.argv[1])), Handler).serve_forever()
