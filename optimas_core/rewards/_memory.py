"""Telling an out-of-memory error from every other error."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """True for CUDA's own class and for the CPU allocator's RuntimeError, which only its text gives away."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
