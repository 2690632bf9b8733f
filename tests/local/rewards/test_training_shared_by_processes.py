"""Two processes under torchrun train the reward functions that one process trains, each on its share of every batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimas_core.models.embedded import prepare

# Trains on three components; process 0 writes the model, every process how many rows it read and where its weights ended.
CODE = """
import json, os, random, signal, sys
from pathlib import Path
import numpy as np
import torch
from optimas_core.errors import PermanentError
from optimas_core.rewards import ALONE, Backbone, RewardModel, RewardPair, follow, training_processes
from optimas_core.rewards import _training
from optimas_core.spec import LrfSettings

folder, backbone, what, fault = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
WORDS = "river mountain copper engine violin garden harbor winter bridge market doctor planet".split()

def pairs(prefix, examples):
    found = []
    for number in range(examples):
        rng = random.Random(f"{prefix}{number}")
        asked, other = rng.sample(WORDS, 2)
        tail = " and more" * rng.randint(0, 12)
        texts = [{"answer": f"{asked}{tail}"}, {"answer": f"{other}{tail}"}, {"answer": f"nothing{tail}"}]
        for better, worse in ((0, 1), (0, 2)):
            context = {"question": f"Say {asked}."}
            found.append(RewardPair(f"part{number % 3}", f"{prefix}{number}", context, texts[better], texts[worse], 1.0, 0.2))
    return found

settings = LrfSettings(rung="frozen" if what == "frozen" else "lora", backbone=backbone, epochs=2, batch_pairs=8, micro_batch_pairs=4,
                       lora_rank=4, max_tokens=64, precision="fp32", adapt_steps=4, replay_pairs=8, max_drift=1.0)
read, steps, ends = 0, 0, []
encode, take = Backbone.encode, _training.Trainer.take

def counted(self, rows, **more):
    global read
    if torch.is_grad_enabled():
        if fault == "memory" and os.environ.get("RANK") == "1" and len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        if fault == "error" and os.environ.get("RANK") == "1" and steps == 1:
            raise ValueError("planted")
        if fault == "killed" and os.environ.get("RANK") == "1" and steps == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        read += len(rows)
    return encode(self, rows, **more)

def taken(self, data, batch):
    global steps
    loss = take(self, data, batch)
    steps += 1
    ends[:] = [float(parameter.detach().double().abs().sum()) for parameter in self._parameters]
    return loss

Backbone.encode, _training.Trainer.take = counted, taken

def train(ranks):
    model = RewardModel.create(settings, ["part0", "part1", "part2"], seed=0)
    report = model.fit(pairs("train", 30), settings, pairs("held", 9), seed=1, ranks=ranks)
    told = {"fit": report.to_json()}
    if what == "adapt":
        own = [pair for pair in pairs("new", 12) if pair.component == "part1"]
        told["adapt"] = model.adapt("part1", own, pairs("train", 4), settings, seed=2, ranks=ranks).to_json()
    (folder / "model").mkdir()
    for name, content in model.to_files().items():
        (folder / "model" / name).write_bytes(content)
    (folder / "report.json").write_text(json.dumps(told))

with training_processes() as ranks:
    try:
        train(ranks) if ranks.leads else follow(ranks)
    except PermanentError as error:
        (folder / f"said-{ranks.rank}").write_text(str(error))
        raise
    finally:
        (folder / f"process-{ranks.rank}.json").write_text(json.dumps([ranks.size, read, steps, ends]))
"""


@pytest.fixture(scope="module")
def backbone() -> Path:
    return prepare("all-minilm-l6-v2")


def trained(folder: Path, backbone: Path, what: str, *, processes: int, fault: str = "") -> tuple[int, str]:
    """Runs the script; its exit code and what it said."""
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(CODE)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), str(folder), str(backbone), what, fault],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def tensors(folder: Path) -> dict[str, np.ndarray]:
    import safetensors.numpy

    return {
        **safetensors.numpy.load_file(folder / "model/adapter.safetensors"),
        **safetensors.numpy.load_file(folder / "model/heads.safetensors"),
    }


def process(folder: Path, rank: int) -> list[Any]:
    found: list[Any] = json.loads((folder / f"process-{rank}.json").read_text())
    return found


@pytest.fixture(scope="module")
def alone(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    code, said = trained(folder, backbone, "adapt", processes=1)
    assert code == 0, said
    return folder


def assert_same_model(one: Path, other: Path) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert np.allclose(value, theirs[name], rtol=1e-3, atol=2e-4), (name, float(np.abs(value - theirs[name]).max()))


@pytest.mark.timeout(600)
def test_two_processes_fit_and_adapt_what_one_does_and_share_the_rows(alone: Path, backbone: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    code, said = trained(shared, backbone, "adapt", processes=2)
    assert code == 0, said
    assert_same_model(alone, shared)
    one, two = (json.loads((folder / "report.json").read_text()) for folder in (alone, shared))
    assert two["fit"]["train_loss"] == pytest.approx(one["fit"]["train_loss"], rel=1e-4)
    assert two["fit"]["best_epoch"] == one["fit"]["best_epoch"] and two["adapt"]["steps"] == one["adapt"]["steps"] == 4
    (size, whole, steps, _), first, second = process(alone, 0), process(shared, 0), process(shared, 1)
    assert size == 1 and first[0] == second[0] == 2 and first[2] == second[2] == steps
    # A row that two parts need is read twice: a little more in all, and hardly more than half for each.
    assert whole <= first[1] + second[1] < 1.3 * whole and max(first[1], second[1]) < 0.7 * whole
    assert first[3] == second[3], "after the last step both processes hold the same bits"


@pytest.mark.timeout(600)
def test_where_one_process_runs_out_of_memory_all_take_smaller_parts(alone: Path, backbone: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    code, said = trained(shared, backbone, "adapt", processes=2, fault="memory")
    assert code == 0, said
    assert json.loads((shared / "report.json").read_text())["fit"]["micro_batch_pairs"] < 4
    assert_same_model(alone, shared)


def test_the_frozen_rung_is_solved_by_process_0(backbone: Path, tmp_path: Path) -> None:
    code, said = trained(tmp_path / "alone", backbone, "frozen", processes=1)
    assert code == 0, said
    code, said = trained(tmp_path / "shared", backbone, "frozen", processes=2)
    assert code == 0, said
    for name in ("heads.safetensors", "config.json"):
        assert (tmp_path / "shared/model" / name).read_bytes() == (tmp_path / "alone/model" / name).read_bytes()
    assert process(tmp_path / "shared", 1)[1:3] == [0, 0]


def test_an_error_in_one_process_ends_all_and_process_0_says_whose_it_was(backbone: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    code, said = trained(shared, backbone, "fit", processes=2, fault="error")
    assert code == 1 and "ValueError: planted" in said
    assert (shared / "said-0").read_text() == "training process 1 of 2 failed: ValueError: planted Its log has the whole of it."
    assert not (shared / "model").exists()


def test_a_process_that_is_killed_ends_all(backbone: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    code, said = trained(shared, backbone, "fit", processes=2, fault="killed")
    assert code == 1 and not (shared / "model").exists()
    assert "exitcode  : -9" in said and "rank      : 1" in said, "what the task that started them reads"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["", "killed"])
def test_processes_of_two_nodes_find_each_other_and_end_together(fault: str, alone: Path, backbone: Path, tmp_path: Path) -> None:
    """As a TrainJob starts them: one torchrun for each node, which knows the address of the first."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "train.py").write_text(CODE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nodes = []
    for number in range(2):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}", "--nproc-per-node=1"]
        address = ["--master-addr=127.0.0.1", f"--master-port={port}"]
        command = [*torchrun, *address, str(folder / "train.py"), str(folder), str(backbone), "adapt", fault]
        nodes.append(
            subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    said = [node.communicate(timeout=300)[0].decode() for node in nodes]
    assert [node.returncode for node in nodes] == ([1, 1] if fault else [0, 0]), said
    if fault:
        assert "ProcessesLost" in said[0] and not (folder / "model").exists()
    else:
        assert_same_model(alone, folder)
