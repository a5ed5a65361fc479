"""Content-defined chunks: nothing lost, nothing too large, borders that stay where they are."""

from hypothesis import given
from hypothesis import strategies as st

from corpus.chunks import chunks, draw

SIZES = st.lists(st.floats(0.1, 30), min_size=1, max_size=300)


def cut(items, limit=60.0):
    return [list(p) for p in chunks(items, key=lambda i: i[0], size=lambda i: i[1], limit=limit)]


@given(SIZES)
def test_chunks_hold_every_item_once_in_order_and_at_most_the_limit(sizes):
    items = [(f"item{index}", size) for index, size in enumerate(sizes)]
    parts = cut(items)
    assert [item for part in parts for item in part] == items
    assert all(sum(size for _, size in part) <= 60.0 for part in parts)
    assert all(sum(size for _, size in part) >= 15.0 for part in parts[:-1])


@given(st.integers(0, 1999))
def test_an_item_taken_out_leaves_all_chunks_but_a_few_as_they_were(index):
    items = [(f"item{number}", 1.0) for number in range(2000)]
    before = {tuple(part) for part in cut(items)}
    after = {tuple(part) for part in cut(items[:index] + items[index + 1 :])}
    assert len(before) > 30
    assert len(before - after) <= 8


def test_most_borders_are_set_by_content():
    parts = cut([(f"item{number}", 1.0) for number in range(20_000)])
    assert sum(len(part) == 60 for part in parts) < len(parts) / 3


def test_an_item_larger_than_the_limit_stands_alone():
    assert cut([("a", 1.0), ("b", 99.0), ("c", 1.0)]) == [
        [("a", 1.0)],
        [("b", 99.0)],
        [("c", 1.0)],
    ]


def test_items_are_read_as_they_are_taken():
    taken = []

    def stream():
        for number in range(100):
            taken.append(number)
            yield number

    first = next(chunks(stream(), key=str, size=lambda _: 1.0, limit=60.0))
    assert next(first) == 0
    assert taken == [0]


def test_draws_are_spread_evenly_and_always_the_same():
    draws = [draw(f"key{number}") for number in range(1000)]
    assert draws == [draw(f"key{number}") for number in range(1000)]
    assert all(80 <= sum(int(10 * d) == tenth for d in draws) <= 120 for tenth in range(10))
