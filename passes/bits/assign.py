"""Mixed precision: the bits of each layer with the least total loss within limits, exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # its parts load when they are used

from qir.ir.errors import PassError, listed
from qir.ir.types import Array
from qir.passes.bits.choice import Assignment, LayerChoices, by_name, evaluate
from qir.passes.bits.costs import cost_of
from qir.passes.bits.groups import FREE, Rules, activation_widths, grouped, same_activations

# HiGHS takes a row to hold if it is off by less than 1e-6, and stops when the objective may be
# off by 1e-6: the largest step in a row is 1e3, in the objective 1e6, so a choice that is off by
# 1e-9 and 1e-12 of the largest step is distinguished.
ROW_STEP, OBJECTIVE_STEP = 1e3, 1e6
TINY = 1e-290  # below, no scale brings a step up
CUTS = 100  # assignments that miss a limit within that tolerance, each excluded by a row


def assign(
    layers: Sequence[LayerChoices], limits: Mapping[str, float], rules: Rules = FREE
) -> Assignment:
    """The bits of each layer with the least sum of losses within all limits and rules.

        min sum_l sum_c x_lc * loss_lc     x_lc in {0, 1}, sum_c x_lc = 1
        sum_l sum_c x_lc * cost_lcr <= limit_r                          for each resource r
        x_lc = x_mc for tied layers l, m; x_lc = 1 for bits that are given

    Solved by HiGHS with no gap; each limit then holds exactly, for sums that are rounded once.
    Sums of losses that differ by 1e-12 of the largest difference within a layer count as equal.
    Of assignments with one loss it is one that uses least of the limited resources, all taken
    together. The same arguments give the same answer.

    Errors: PassError if limits cannot be kept (which, and the least that can be reached), or if
    rules contradict each other.
    Source: HAWQ-V3, arXiv:2011.10680, its integer linear program, here for any number of choices
    and limits at once; one-hot as in AdaQuant, arXiv:2006.10518.
    """
    return _best(_Program(layers, rules), _bounded(limits))


def pareto(
    layers: Sequence[LayerChoices],
    resource: str,
    points: int,
    limits: Mapping[str, float] | None = None,
    rules: Rules = FREE,
) -> tuple[Assignment, ...]:
    """The best assignments at `points` limits on a resource, evenly from the least reachable cost
    to that of the least loss; without duplicates, the cheapest first.

    From each to the next the cost rises and the loss falls, strictly.

    Errors: PassError as in assign, for the other limits and the rules.
    """
    if points < 1:
        raise PassError(f"pareto {resource}: {points} points, at least one is needed")
    program, others = _Program(layers, rules), _bounded(limits or {})
    dearest = _best(program, {resource: math.inf, **others})
    low = program.least(resource, others)
    high = min(dearest.costs[resource], others.get(resource, math.inf))
    front: list[Assignment] = []
    for bound in np.linspace(low, high, points).tolist() if points > 1 else [high]:
        assignment = _best(program, {**others, resource: min(max(bound, low), high)})
        if not front or assignment.loss < front[-1].loss:
            front.append(assignment)
    return tuple(front)


def _bounded(limits: Mapping[str, float]) -> dict[str, float]:
    for resource, limit in limits.items():
        if math.isnan(limit) or limit == -math.inf:
            raise PassError(f"assign-bits {resource}: the limit is {limit}, a number is needed")
    return dict(limits)


class _Program:
    """The integer program of some layers: one variable for each choice of each group of them."""

    def __init__(self, layers: Sequence[LayerChoices], rules: Rules) -> None:
        self.layers, self.by_name = tuple(layers), by_name(layers)
        self.groups = grouped(layers, rules)
        sizes = [len(group.choices) for group in self.groups]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self.group_of = np.repeat(np.arange(len(sizes)), sizes)
        self.loss = self._each(None)
        self.shape = [self._one_hot(), *self._agreements(same_activations(self.groups, rules))]

    def _each(self, resource: str | None) -> Array:
        """The cost of every choice in order, or its loss."""
        choices = [choice for group in self.groups for choice in group.choices]
        return np.array([c.loss if resource is None else c.costs[resource] for c in choices])

    def cost(self, resource: str) -> Array:
        for layer in self.layers:
            for choice in layer.choices:
                cost_of(layer, choice, resource)  # says which is missing
        return self._each(resource)

    def _one_hot(self) -> scipy.optimize.LinearConstraint:
        n = len(self.group_of)
        rows = scipy.sparse.csr_array((np.ones(n), (self.group_of, np.arange(n))))
        return scipy.optimize.LinearConstraint(rows, 1, 1)

    def _agreements(self, ties: Sequence[Sequence[int]]) -> list[scipy.optimize.LinearConstraint]:
        """For groups tied by their activations: as much of each width in one as in the next."""
        rows = []
        for part in ties:
            widths = sorted({w for k in part for w in activation_widths(self.groups[k])})
            for a, b in itertools.pairwise(part):
                rows += [self._of_width(a, w) - self._of_width(b, w) for w in widths]
        if not rows:
            return []
        return [scipy.optimize.LinearConstraint(scipy.sparse.csr_array(np.array(rows)), 0, 0)]

    def _of_width(self, k: int, width: int) -> Array:
        row = np.zeros(len(self.group_of))
        choices = self.groups[k].choices
        row[self.starts[k] :][: len(choices)] = [c.bits.activation == width for c in choices]
        return row

    def scaled(self, values: Array, step: float) -> tuple[Array, float, float]:
        """The values above the least of their group, the largest as `step`; the sum of the least
        and the factor."""
        least = np.minimum.reduceat(values, self.starts)
        above = values - least[self.group_of]
        largest = float(above.max())
        factor = step / largest if largest > TINY else 1.0
        return above * factor, math.fsum(least.tolist()), factor

    def _row(self, values: Array, bound: float) -> scipy.optimize.LinearConstraint:
        above, base, factor = self.scaled(values, ROW_STEP)
        rounded = math.ulp(base) + math.ulp(bound)  # never excludes a sum that rounds to the bound
        return scipy.optimize.LinearConstraint(
            above[None], -np.inf, (bound - base + rounded) * factor
        )

    def solve(
        self,
        objective: Array,
        rows: Sequence[tuple[Array, float]],
        cuts: Sequence[scipy.optimize.LinearConstraint],
    ) -> Array | None:
        """The choice of each group, as indices of variables, or None where none keeps the rows."""
        result = scipy.optimize.milp(
            self.scaled(objective, OBJECTIVE_STEP)[0],
            integrality=np.ones(len(objective)),
            bounds=scipy.optimize.Bounds(0, 1),
            constraints=[*self.shape, *(self._row(*row) for row in rows), *cuts],
            options={"mip_rel_gap": 0},
        )
        if result.status == 2:
            return None
        if result.status != 0:
            raise PassError(f"assign-bits: HiGHS stopped ({result.message}), an optimum is needed")
        is_selected = result.x > 0.5
        if any((rule.A @ is_selected != rule.lb).any() for rule in self.shape):
            raise PassError("assign-bits: HiGHS gave bits that break a rule, none broken is needed")
        return np.flatnonzero(is_selected)

    def assignment(self, variables: Array) -> Assignment:
        """The assignment of chosen variables, one for each group."""
        bits = {
            name: group.choices[at].bits
            for group, at in zip(self.groups, (variables - self.starts).tolist(), strict=True)
            for name in group.members
        }
        return evaluate(self.layers, {name: bits[name] for name in self.by_name})

    def search(self, objective: Array, limits: Mapping[str, float]) -> Assignment | None:
        """The assignment with the least objective that keeps the limits exactly.

        What HiGHS lets pass by its tolerance is excluded by a cut, and solved again.
        """
        costs = {r: self.cost(r) for r, bound in limits.items() if bound < math.inf}
        rows, cuts = [(costs[r], limits[r]) for r in costs], list[scipy.optimize.LinearConstraint]()
        while (variables := self.solve(objective, rows, cuts)) is not None:
            assignment = self.assignment(variables)
            resource = next((r for r in costs if assignment.costs[r] > limits[r]), None)
            if resource is None:
                return assignment
            if len(cuts) == CUTS:
                raise PassError(
                    f"assign-bits {resource}: the limit is {_number(limits[resource])}, which more "
                    f"than {CUTS} assignments miss by their last digits; a limit a little above "
                    f"or below is needed"
                )
            cuts.append(self._cover_cut(costs[resource], variables))
        return None

    def _cover_cut(self, costs: Array, variables: Array) -> scipy.optimize.LinearConstraint:
        """Excludes choices that break a limit, and all that use at least as much of the resource.

            sum_{g in C} sum_{c: d_c >= d_g} x_c + sum_{g not in C} sum_{c: d_c >= max d} x_c < |C|

        with d what a choice uses above the least of its group, and C the groups chosen above it.

        Source: extended cover inequalities of the knapsack problem (Balas 1975), for choices.
        """
        above = self.scaled(costs, 1.0)[0]
        use = above[variables]
        cover = use > 0
        thresholds = np.where(cover, use, use.max() if cover.any() else np.inf)
        row = (above >= thresholds[self.group_of]).astype(float)
        return scipy.optimize.LinearConstraint(row[None], -np.inf, int(cover.sum()) - 1)

    def least(self, resource: str, limits: Mapping[str, float]) -> float:
        """The least cost in a resource within limits that can be met."""
        assignment = self.search(self.cost(resource), limits)
        assert assignment is not None
        return assignment.costs[resource]

    def least_use(self, best: Assignment, limits: Mapping[str, float]) -> Assignment:
        """An assignment with the loss of the best one, but the least use of limited resources."""
        costs = [self.scaled(self.cost(r), 1.0)[0] for r in limits]
        if not costs:
            return best
        rows = [(self.cost(r), bound) for r, bound in limits.items() if bound < math.inf]
        variables = self.solve(np.sum(costs, axis=0), [*rows, (self.loss, best.loss)], ())
        if variables is None:
            return best
        assignment = self.assignment(variables)
        fits = all(assignment.costs[r] <= bound for r, bound in limits.items())
        return assignment if fits and assignment.loss <= best.loss else best


def _best(program: _Program, limits: Mapping[str, float]) -> Assignment:
    assignment = program.search(program.loss, limits)
    if assignment is None:
        raise _out_of_reach(program, limits)
    return program.least_use(assignment, limits)


def _out_of_reach(program: _Program, limits: Mapping[str, float]) -> PassError:
    """The limits that cannot be met, alone or together, and the least value of each."""
    least = {r: program.least(r, {}) for r in limits}
    faults = [_missed(r, limits[r], least[r]) for r in limits if limits[r] < least[r]]
    if len(faults) == 1:
        return PassError(f"assign-bits {faults[0]}")
    if faults:
        return PassError(listed(f"assign-bits: {len(faults)} limits are out of reach", faults))
    core = dict(limits)  # becomes a set of limits of which any one less could be kept
    for resource in limits:
        rest = {r: bound for r, bound in core.items() if r != resource}
        if program.search(program.loss, rest) is None:
            core = rest
    faults = [
        _missed(r, core[r], program.least(r, {k: v for k, v in core.items() if k != r}))
        + " with the other limits"
        for r in core
    ]
    return PassError(listed("assign-bits: limits that cannot be kept together", faults))


def _missed(resource: str, limit: float, least: float) -> str:
    return f"{resource}: the limit is {_number(limit)}, at least {_number(least)} is needed"


def _number(value: float) -> str:
    """All digits, so that a printed number can be used as a limit."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
