"""Places: the same elements as NumPy's strided views."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.backends.lowering.place import Place

MEMORY = np.arange(200_000)


def seen(place: Place) -> np.ndarray:  # type: ignore[type-arg]
    """The elements of a place, each named by its position in memory."""
    strides = [8 * s for s in place.strides]
    return np.lib.stride_tricks.as_strided(MEMORY[place.offset :], place.shape, strides)


@st.composite
def places(draw: st.DrawFn) -> Place:
    shape = draw(st.lists(st.integers(1, 4), max_size=5))
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size + draw(st.integers(0, 2))
    return Place("r", "int8", tuple(shape), tuple(reversed(strides)), draw(st.integers(0, 9)))


@given(places(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_reshape_is_numpys_or_needs_a_copy(place: Place, data: st.DataObject) -> None:
    shape, rest = [], place.size
    while rest > 1 and len(shape) < 4:
        shape.append(data.draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0])))
        rest //= shape[-1]
    shape.append(rest)
    made = place.reshaped(tuple(shape))
    if made is not None:
        assert np.array_equal(seen(made), seen(place).reshape(shape))
    else:
        assert not np.shares_memory(seen(place).reshape(shape), MEMORY)


@given(places(), st.data())
@settings(max_examples=100, deadline=None)
def test_slices_and_transposes_are_numpys(place: Place, data: st.DataObject) -> None:
    perm = data.draw(st.permutations(range(len(place.shape))))
    start = [data.draw(st.integers(0, n - 1)) for n in place.shape]
    step = [data.draw(st.integers(1, 3)) for _ in place.shape]
    shape = [-(-(n - a) // k) for n, a, k in zip(place.shape, start, step, strict=True)]
    index = tuple(slice(a, None, k) for a, k in zip(start, step, strict=True))
    assert np.array_equal(seen(place.permuted(perm)), seen(place).transpose(perm))
    assert np.array_equal(seen(place.sliced(start, shape, step)), seen(place)[index])
    assert seen(place).size == place.size


@given(places())
@settings(max_examples=200, deadline=None)
def test_a_plane_walks_the_same_elements(place: Place) -> None:
    plane = place.plane()
    if plane is None:
        assert place.strides[-1] != 1 or len(place.shape) == 5
        return
    strides = (plane.pitch_n, plane.pitch_y, plane.pitch_x, 1)
    walked = seen(Place("r", "int8", plane.shape, strides, place.offset))
    assert np.array_equal(walked.reshape(-1), seen(place).reshape(-1))


@given(places(), places())
@settings(max_examples=300, deadline=None)
def test_places_with_a_common_element_meet(a: Place, b: Place) -> None:
    assert a.meets(b) == b.meets(a)
    assert a.meets(b) or not np.intersect1d(seen(a), seen(b)).size


@given(places(), st.data())
@settings(max_examples=200, deadline=None)
def test_parts_along_an_axis_do_not_meet(place: Place, data: st.DataObject) -> None:
    axes = [axis for axis, size in enumerate(place.shape) if size > 1]
    place = Place.packed("r", "int8", place.shape)
    if axes:
        axis = data.draw(st.sampled_from(axes))
        cut, rank = data.draw(st.integers(1, place.shape[axis] - 1)), len(place.shape)
        at = [cut if i == axis else 0 for i in range(rank)]
        sizes = [[n if i == axis else size for i, size in enumerate(place.shape)]
                 for n in (cut, place.shape[axis] - cut)]  # fmt: skip
        left, right = place.sliced([0] * rank, sizes[0]), place.sliced(at, sizes[1])
        assert not left.meets(right) and left.meets(place) and right.meets(place)
