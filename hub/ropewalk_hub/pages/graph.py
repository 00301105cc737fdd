"""A run's steps as a drawing: layers, rows, curves. Pure; the template only writes what comes out.

Steps lie in layers by their longest way from a start, in the order of what they need; many alike steps of a layer are
drawn as one. Rejected: a layout engine in the browser; the picture must be there without scripts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk_core.flows import Step
from ropewalk_core.model import State

WIDE, HIGH = 160, 44
_ALONG, _ACROSS = 32, 12
_EDGE = 8
_MANY = 10
_LETTERS = 17
_ORDER = (State.FAILED, State.RUNNING, State.STARTING, State.STOPPING, State.WAITING, State.ASKED, State.STOPPED)


@dataclass(frozen=True)
class Node:
    """One box: a step, or several alike ones."""

    id: str
    label: str
    title: str
    state: State
    note: str
    x: int
    y: int
    count: int = 1


@dataclass(frozen=True)
class Graph:
    """A drawing of its own size."""

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[str, ...]


@dataclass(frozen=True)
class _Box:
    id: str
    steps: tuple[Step, ...]
    needs: frozenset[str]


def draw(steps: Sequence[Step], notes: Mapping[str, str]) -> Graph:
    """Return the drawing of a run.

    Parameters
    ----------
    steps
        The steps; what they need and is not among them is left out.
    notes
        Small text by step, such as how long it took.
    """
    boxes = _boxes(steps)
    layers = _ordered(_layers(boxes), boxes)
    tallest = max((len(layer) for layer in layers), default=0)
    across = len(layers) * (WIDE + _ALONG) / 520 > tallest * (HIGH + _ACROSS) / 200 and len(layers) > 3
    places = _places(layers, tallest, down=across)
    nodes = tuple(_node(boxes[one], notes, *places[one]) for layer in layers for one in layer)
    edges = tuple(
        _edge(places[need], places[box.id], down=across)
        for box in boxes.values()
        for need in sorted(box.needs)
        if need in places
    )
    width = max((x + WIDE for x, _ in places.values()), default=0) + _EDGE
    height = max((y + HIGH for _, y in places.values()), default=0) + _EDGE
    return Graph(width, height, nodes, edges)


def worst(states: Sequence[State]) -> State:
    """Return the state that a group of steps shows: what needs attention first."""
    present = set(states)
    return next((one for one in _ORDER if one in present), State.DONE)


def _boxes(steps: Sequence[Step]) -> dict[str, _Box]:
    """Return boxes by identifier; steps of one template that need the same and are many share one."""
    groups: dict[tuple[str, frozenset[str]], list[Step]] = defaultdict(list)
    for step in steps:
        groups[step.template or step.name.split("(")[0], frozenset(step.needs)].append(step)
    of_step: dict[str, str] = {}
    members: dict[str, list[Step]] = {}
    for group in groups.values():
        together = [group] if len(group) >= _MANY else [[one] for one in group]
        for some in together:
            members[some[0].id] = some
            of_step |= {one.id: some[0].id for one in some}
    return {
        name: _Box(
            name,
            tuple(some),
            frozenset(of_step[need] for one in some for need in one.needs if need in of_step) - {name},
        )
        for name, some in members.items()
    }


def _layers(boxes: Mapping[str, _Box]) -> list[list[str]]:
    """Return the boxes by the length of the longest way to them; what lies on a circle, or behind one, comes last."""
    missing = {name: len(box.needs) for name, box in boxes.items()}
    after: dict[str, list[str]] = defaultdict(list)
    for name, box in boxes.items():
        for need in box.needs:
            after[need].append(name)
    layers: list[list[str]] = []
    ready = [name for name, count in missing.items() if not count]
    while ready:
        layers.append(ready)
        ready = []
        for name in (follower for one in layers[-1] for follower in after[one]):
            missing[name] -= 1
            if not missing[name]:
                ready.append(name)
    left = [name for name, count in missing.items() if count]
    return [*layers, left] if left else layers


def _ordered(layers: list[list[str]], boxes: Mapping[str, _Box]) -> list[list[str]]:
    """Order each layer by where what it needs lies, so that few lines cross."""
    row: dict[str, float] = {}
    for layer in layers:
        before = {name: [row[need] for need in boxes[name].needs if need in row] for name in layer}
        layer.sort(key=lambda name: sum(before[name]) / len(before[name]) if before[name] else 0.0)
        row |= {name: number - (len(layer) - 1) / 2 for number, name in enumerate(layer)}
    return layers


def _places(layers: Sequence[Sequence[str]], tallest: int, *, down: bool) -> dict[str, tuple[int, int]]:
    places = {}
    for number, layer in enumerate(layers):
        for row, name in enumerate(layer):
            offset = row + (tallest - len(layer)) / 2
            if down:
                places[name] = (round(_EDGE + offset * (WIDE + _ACROSS)), _EDGE + number * (HIGH + _ALONG))
            else:
                places[name] = (_EDGE + number * (WIDE + _ALONG), round(_EDGE + offset * (HIGH + _ACROSS)))
    return places


def _edge(start: tuple[int, int], end: tuple[int, int], *, down: bool) -> str:
    (x1, y1), (x2, y2) = start, end
    if down:
        x1, y1, x2 = x1 + WIDE // 2, y1 + HIGH, x2 + WIDE // 2
        middle = (y1 + y2) // 2
        return f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"
    x1, y1, y2 = x1 + WIDE, y1 + HIGH // 2, y2 + HIGH // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"


def _node(box: _Box, notes: Mapping[str, str], x: int, y: int) -> Node:
    first = box.steps[0]
    if len(box.steps) == 1:
        state = first.status.state
        note = f"{state.value} {first.status.note or notes.get(first.id, '')}".strip()
        return Node(first.id, _short(first.name), f"{first.name}: {note}", state, note, x, y)
    counts = Counter(one.status.state for one in box.steps)
    state = worst(list(counts))
    said = Counter(one.status.note for one in box.steps if one.status.note)
    parts = [(one.value, counts[one]) for one in State if counts[one]] + sorted(said.items())
    note = ", ".join(f"{count} {one}" for one, count in parts)
    name = f"{first.template or first.name.split('(')[0]} \u00d7 {len(box.steps)}"
    chosen = next(one for one in box.steps if one.status.state is state)
    return Node(chosen.id, _short(name), f"{name}: {note}", state, _short(note, 24), x, y, len(box.steps))


def _short(text: str, letters: int = _LETTERS) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
