"""The processes that share each training step, and all that they say to each other.

torchrun starts them. Process 0 leads: it alone reads the workspace, evaluates and commits; the others hold a copy of what is trained and
compute their share of every batch. Messages are JSON over gloo, which notices at once that a process has gone; gradients take the
fastest way that the devices have. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from optimas_core.errors import PermanentError
from optimas_core.rewards._memory import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")

# The others wait while process 0 reads, evaluates and commits. One that dies is noticed without this.
_PATIENCE = timedelta(hours=24)
_FINE, _OUT_OF_MEMORY, _FAILED = 0, 1, 2


class ProcessesLost(Exception):
    """Another process of this training has gone; this one can only end too."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of the processes this is. `ALONE` sends nothing, and every method is as if there were no others."""

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, parts: Sequence[Part]) -> Sequence[Part]:
        """This process's parts of a batch; every part is exactly one process's."""
        return parts[self.rank :: self.size]

    def part_size(self, batch_pairs: int, micro_batch_pairs: int) -> int:
        """Pairs of a part at most: no more than fit, and few enough that every process has some."""
        return micro_batch_pairs if self.alone else min(micro_batch_pairs, -(-batch_pairs // self.size))

    def tell(self, message: Mapping[str, Any]) -> None:
        """From process 0 to all others.

        Raises:
            ProcessesLost: one of them has gone.
        """
        if not self.alone:
            self._broadcast(json.dumps(message).encode())

    def hear(self) -> dict[str, Any]:
        """What process 0 tells next.

        Raises:
            ProcessesLost: it has gone.
        """
        message: dict[str, Any] = json.loads(self._broadcast(b""))
        return message

    def together(self, work: Callable[[], Result], *, may_shrink: bool = False) -> Result | None:
        """`work`, done in every process. None in all of them where it did not fit in one's memory (`may_shrink`).

        Raises:
            ProcessesLost: one of them has gone.
            PermanentError: it failed in another process; says which and how.
            Exception: it failed in this one.
        """
        failure: Exception | None = None
        result: Result | None = None
        try:
            result = work()
        except Exception as error:
            failure = error
        outcome = _FINE if failure is None else _OUT_OF_MEMORY if may_shrink and is_out_of_memory(failure) else _FAILED
        worst = outcome if self.alone else self._worst(outcome)
        if worst == _FAILED:
            said = [] if self.alone else self._gather("" if failure is None else f"{type(failure).__name__}: {failure}"[:1000])
            if failure is not None:
                raise failure
            rank = next(rank for rank, text in enumerate(said) if text)
            raise PermanentError(f"training process {rank} of {self.size} failed: {said[rank]}", remedy="Its log has the whole of it.")
        return result if worst == _FINE else None

    def add_up(self, parameters: Sequence[Tensor], loss: float) -> float:
        """Sum the gradients over all processes, in place, and return the sum of the losses.

        A parameter without a gradient anywhere keeps none, so that its optimizer state stays as it is.

        Raises:
            ProcessesLost: one of them has gone.
        """
        if self.alone:
            return loss
        import torch

        with torch.no_grad():
            device = parameters[0].device
            there = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=device)
            parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in parameters]
            flat = torch.cat([*parts, there])
            _all_reduce(flat)
            sums = flat.split([part.numel() for part in parts] + [len(parts)])
            for parameter, total, holders in zip(parameters, sums[:-1], sums[-1].tolist(), strict=True):
                parameter.grad = total.reshape(parameter.shape).to(parameter.dtype) if holders else None
            whole = torch.tensor([loss], dtype=torch.float64)
            _all_reduce(whole)
        return float(whole)

    def _worst(self, outcome: int) -> int:
        import torch
        import torch.distributed as dist

        flag = torch.tensor([outcome])
        with _noticing():
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return int(flag)

    def _broadcast(self, data: bytes) -> bytes:
        import torch
        import torch.distributed as dist

        with _noticing():
            size = torch.tensor([len(data)])
            dist.broadcast(size, src=0)
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.leads else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(content, src=0)
        received: bytes = content.numpy().tobytes()
        return received

    def _gather(self, text: str) -> list[str]:
        """Every process's text, by rank."""
        import torch
        import torch.distributed as dist

        data = text.encode()
        with _noticing():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(sizes, torch.tensor([len(data)]))
            room = max(int(size) for size in sizes)
            own = torch.zeros(room, dtype=torch.uint8)
            own[: len(data)] = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[: len(data)]
            found = [torch.zeros(room, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(found, own)
        return [content[: int(size)].numpy().tobytes().decode(errors="replace") for content, size in zip(found, sizes, strict=True)]


ALONE = Ranks()


@contextmanager
def training_processes() -> Iterator[Ranks]:
    """Join the processes that torchrun started with this one; without torchrun, or with one process, there is nothing to join.

    When the block of process 0 ends, however it ends, the others are told to end too.

    Raises:
        ProcessesLost: the others were not found.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    # NCCL wants a device for each process; gloo also takes several on one.
    enough = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_device())
    with _noticing():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() and enough else "gloo", timeout=_PATIENCE)
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    try:
        yield ranks
    finally:
        if ranks.leads:
            with suppress(ProcessesLost):  # they have ended
                ranks.tell({"do": "end"})
        dist.destroy_process_group()


def local_device() -> str:
    """Where this process computes: its own CUDA device as far as there are enough."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{int(os.environ.get('LOCAL_RANK') or 0) % count}" if count else "cpu"


def _all_reduce(tensor: Tensor) -> None:
    import torch.distributed as dist

    with _noticing():
        dist.all_reduce(tensor)


@contextmanager
def _noticing() -> Iterator[None]:
    """gloo, NCCL and the rendezvous tell of a process that has gone by a RuntimeError of many texts."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessesLost(f"another training process has gone ({str(error).splitlines()[0][:200]}).") from error
