"""The plan of a prefill: every prompt once, shared beginnings really shared, and worth it."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from optimas_core.models._local_prefix import MIN_SHARED, Branch, chunk_by_length, common_length, plan_prefill

HEADER = tuple(range(1000, 1040))
TEMPLATE = HEADER + tuple(range(2000, 2100))


def walk(branch: Branch) -> list[Branch]:
    return [branch, *(below for child in branch.branches for below in walk(child))]


def read_tokens(plan: Branch, prompts: list[tuple[int, ...]]) -> int:
    """Tokens computed when nothing is known."""
    own = sum(len(prompts[leaf]) - plan.length for leaf in plan.leaves)
    return own + sum(child.length - plan.length + read_tokens(child, prompts) for child in plan.branches)


def test_one_template_is_read_once() -> None:
    prompts = [(*TEMPLATE, i, i + 1, i + 2) for i in range(0, 100, 10)]
    plan = plan_prefill(prompts)
    assert [child.length for child in plan.branches] == [len(TEMPLATE)]
    assert read_tokens(plan, prompts) == len(TEMPLATE) + 10 * 3


def test_templates_below_a_common_header_do_not_shorten_one_another() -> None:
    one = [(*HEADER, *range(3000, 3100), i) for i in range(4)]
    other = [(*HEADER, *range(4000, 4100), i) for i in range(4)]
    prompts = [one[0], other[0], one[1], other[1], one[2], other[2], one[3], other[3]]
    plan = plan_prefill(prompts)
    assert read_tokens(plan, prompts) == 40 + 2 * 100 + 8


def test_a_short_beginning_is_not_shared() -> None:
    prompts = [tuple(range(MIN_SHARED - 1)) + (i,) * 50 for i in range(100, 110)]
    assert plan_prefill(prompts).branches == []


def test_a_known_beginning_serves_a_single_prompt() -> None:
    prompt = (*TEMPLATE, 1, 2, 3)
    assert plan_prefill([prompt]).branches == []
    plan = plan_prefill([prompt], known=[(*TEMPLATE, 7, 8)])
    assert plan.branches[0].length == len(TEMPLATE)
    assert plan.branches[0].leaves == [0]


def test_a_known_prompt_leaves_one_token_to_read() -> None:
    plan = plan_prefill([TEMPLATE], known=[TEMPLATE])
    assert plan.branches[0].length == len(TEMPLATE) - 1


def test_known_sequences_that_nobody_shares_make_no_branch() -> None:
    assert plan_prefill([(1, 2, 3)], known=[TEMPLATE, (*TEMPLATE, 5)]) == Branch(0, leaves=[0])


pieces = st.sampled_from([tuple(range(i * 100, i * 100 + n)) for i, n in enumerate((1, 20, 33, 40, 80))])
sequences = st.lists(pieces, min_size=1, max_size=4).map(lambda parts: tuple(t for part in parts for t in part))


@given(st.lists(sequences, min_size=1, max_size=12, unique=True), st.lists(sequences, max_size=4, unique=True))
def test_every_prompt_is_in_the_tree_once_below_its_own_beginning(prompts: list, known: list) -> None:
    plan = plan_prefill(prompts, known)
    found = []
    for branch in walk(plan):
        beginning = prompts[branch.first()][: branch.length]
        assert all(child.length >= branch.length + MIN_SHARED for child in branch.branches)
        for leaf in [leaf for below in walk(branch) for leaf in below.leaves]:
            assert prompts[leaf][: branch.length] == beginning
            assert len(prompts[leaf]) > branch.length
        found += branch.leaves
    assert sorted(found) == list(range(len(prompts)))
    if not known:
        assert read_tokens(plan, prompts) <= sum(map(len, prompts))


def test_common_length() -> None:
    assert common_length((1, 2, 3), (1, 2, 4)) == 2
    assert common_length((1, 2), (1, 2, 4)) == 2
    assert common_length((), (1,)) == 0


@given(st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_chunks_hold_every_index_once_with_little_padding(lengths: list[int]) -> None:
    chunks = chunk_by_length(lengths, 1024)
    assert sorted(i for chunk in chunks for i in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        sizes = [lengths[i] for i in chunk]
        assert len(chunk) == 1 or max(sizes) * len(chunk) <= 1024
        assert max(sizes) - min(sizes) <= max(8, max(sizes) // 4)
