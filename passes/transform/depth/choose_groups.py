"""Groups of adjacent layers whose inputs are alike."""

from __future__ import annotations

from collections.abc import Sequence

NONE = float("-inf")


def choose_groups(
    cosines: Sequence[float | None], members: int, most: int
) -> tuple[tuple[int, ...], ...]:
    """At most `most` disjoint groups of `members` adjacent layers, as many as there is room for,
    with the greatest sum of similarities within groups.

    cosines: of the inputs of layers i and i + 1; None where they are not adjacent.
    Source: CQIL, arXiv:2404.06709, section 3.2, chooses one range of layers by this similarity;
            groups apart by dynamic programming: this project.
    """
    count = len(cosines) + 1

    def within(start: int) -> float:
        links = cosines[start : start + members - 1]
        return sum(NONE if s is None else s for s in links)

    # best[g][i]: of g groups among the first i layers, and where the last one starts if at i's end
    best = [[0.0] * (count + 1)] + [[NONE] * (count + 1) for _ in range(most)]
    ends = [[False] * (count + 1) for _ in range(most + 1)]
    for g in range(1, most + 1):
        for i in range(1, count + 1):
            best[g][i] = best[g][i - 1]
            if i >= members:
                with_it = best[g - 1][i - members] + within(i - members)
                if with_it > best[g][i]:
                    best[g][i], ends[g][i] = with_it, True
    g = max((n for n in range(most + 1) if best[n][count] > NONE), default=0)
    groups, i = list[tuple[int, ...]](), count
    while g:
        if ends[g][i]:
            groups.append(tuple(range(i - members, i)))
            i, g = i - members, g - 1
        else:
            i -= 1
    return tuple(reversed(groups))
