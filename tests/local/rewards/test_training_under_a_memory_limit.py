"""A process whose memory is limited by the system trains with smaller micro-batches and comes to the same reward functions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = """
import json, resource, sys
from pathlib import Path
from _chaos.project import write_backbone
from optimas_core.rewards import RewardModel, RewardPair
from optimas_core.spec import LrfSettings
backbone = write_backbone(Path(sys.argv[1]), positions=512, hidden=64)
def pairs(count, words):
    text = " item is red" * (words // 3)
    return [
        RewardPair("one", f"e{n}", {"context": text}, {"answer": f"green {n}"}, {"answer": f"unknown {n}"}, 1.0, 0.0) for n in range(count)
    ]
def fit(data, micro):
    settings = LrfSettings(rung="lora", backbone=str(backbone), max_tokens=512, epochs=1, batch_pairs=32, micro_batch_pairs=micro,
                           lora_rank=2, precision="fp32")
    model = RewardModel.create(settings, ["one"], seed=0)
    report = model.fit(data, settings, seed=0)
    return report.micro_batch_pairs, [float(w) for w in model.heads["one"].weights[:4]]
fit(pairs(4, 30), 4)  # libraries take what they take once
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (250 << 20), hard))
data = pairs(32, 480)
micro, limited = fit(data, 32)
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(json.dumps([micro, limited, *fit(data, micro)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds a process on Linux only")
def test_micro_batches_are_halved_at_the_limit_and_the_result_is_the_same(chaos: tuple[Any, Path], tmp_path: Path) -> None:
    zygote, _ = chaos
    script = tmp_path / "train.py"
    script.write_text(CODE)
    process = zygote.start([tmp_path / "backbone"], output=tmp_path / "output", script=str(script))
    assert process.wait(200) == 0, process.said[-3000:]
    micro, limited, kept, free = json.loads(process.said.splitlines()[-1])
    assert 1 <= micro < 32 and kept == micro
    assert limited == pytest.approx(free, abs=1e-4)
