"""What kfp.local does to this process while it runs a pipeline is undone, however its threads ended."""

from __future__ import annotations

import builtins
import logging
import threading

import pytest
from kfp.local import logging_utils

from optimas_core.launchers._kfp_local import _quiet


def test_print_is_what_it_was_though_two_tasks_put_theirs_back_in_the_wrong_order(capsys: pytest.CaptureFixture[str]) -> None:
    plain, level = builtins.print, logging.getLogger().level
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with logging_utils.indented_print():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second() -> None:
        first_in.wait(10)
        with logging_utils.indented_print():
            second_in.set()
            first_out.wait(10)

    with _quiet():
        tasks = [threading.Thread(target=task) for task in (first, second)]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
        leaked = builtins.print
        print("progress")
    assert leaked is not plain, "else kfp.local has mended it, and this test shows nothing"
    assert builtins.print is plain and logging.getLogger().level == level
    print("result")
    said = capsys.readouterr()
    assert said.out == "result\n" and "progress" in said.err
