import pytest
from fx_core.errors import InvalidFilterError
from fx_core.scope import (
    DenyList,
    filter_to_set,
    group_collections,
    in_filter,
    intersect_filters,
    is_filter_empty,
    subtract_filters,
    union_filters,
)
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = "abcd"
# A name that no filter mentions stands for all the others.
WORLD = (*NAMES, "other")

names = st.sampled_from(NAMES)
plain = st.one_of(
    st.booleans(), names, st.lists(names), st.sets(names), st.frozensets(names), st.lists(names).map(tuple)
)
filters = st.recursive(plain, lambda inner: inner.map(DenyList), max_leaves=3)
check = settings(max_examples=50, deadline=None)


def model(filter_like):
    """The set of names that a filter lets through, written down independently."""
    if filter_like is True:
        return set(WORLD)
    if filter_like is False:
        return set()
    if isinstance(filter_like, DenyList):
        return set(WORLD) - model(filter_like.deny)
    return {filter_like} if isinstance(filter_like, str) else set(filter_like)


@check
@given(filters, filters)
def test_operations_are_those_of_sets(a, b):
    assert model(union_filters(a, b)) == model(a) | model(b)
    assert model(intersect_filters(a, b)) == model(a) & model(b)
    assert model(subtract_filters(a, b)) == model(a) - model(b)


@check
@given(filters)
def test_in_filter_and_emptiness_agree_with_the_model(a):
    assert {name for name in WORLD if in_filter(a, name)} == model(a)
    assert is_filter_empty(a) == (not model(a))


@check
@given(filters, filters)
def test_equal_sets_give_equal_hashable_results(a, b):
    ab, ba = union_filters(a, b), union_filters(b, a)
    assert ab == ba
    assert hash(ab) == hash(ba)


@check
@given(filters)
def test_filter_to_set_gives_the_names_or_says_that_they_are_infinite(a):
    if "other" in model(a):
        with pytest.raises(InvalidFilterError, match="infinitely many names"):
            filter_to_set(a)
    else:
        assert filter_to_set(a) == model(a)


@check
@given(st.dictionaries(st.sampled_from(WORLD), st.integers()), st.lists(filters, max_size=4))
def test_groups_are_disjoint_and_first_come_first_served(xs, col_filters):
    groups = group_collections(xs, col_filters)
    assert len(groups) == len(col_filters)
    for col, value in xs.items():
        expected = next((i for i, f in enumerate(col_filters) if col in model(f)), None)
        assert [i for i, group in enumerate(groups) if col in group] == ([] if expected is None else [expected])
        if expected is not None:
            assert groups[expected][col] == value


@pytest.mark.parametrize("bad", [None, 3, 1.5, object()])
@pytest.mark.parametrize("use", [lambda f: in_filter(f, "a"), is_filter_empty, filter_to_set])
def test_what_is_no_filter_raises(use, bad):
    with pytest.raises(InvalidFilterError, match="not a filter of collections") as info:
        use(bad)
    assert info.value.got == repr(bad)
    assert "DenyList" in info.value.expected


def test_results_are_simple():
    assert union_filters(DenyList("a"), "a") is True
    assert intersect_filters("a", "b") == frozenset()
    assert subtract_filters(True, False) is True
    assert subtract_filters(True, True) is False
    assert subtract_filters(False, False) == frozenset()
    assert DenyList(["a"]) == DenyList("a") != DenyList("b")
    assert DenyList(True) == frozenset()
    assert union_filters("a", ["b"]) == {"a", "b"}
    assert intersect_filters(DenyList("a"), DenyList(["b"])) == DenyList(frozenset("ab"))
    assert hash(DenyList(["a"])) == hash(DenyList("a"))
