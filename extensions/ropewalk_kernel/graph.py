"""A run's graph as a picture: boxes in columns, equal steps of a fan-out in one box, arrows between. Pure.

The picture is SVG inside the output, without a script, so that it is the same in a live notebook, a saved one and an
exported page. Rejected: a layout library; columns by longest path are what people draw by hand for such graphs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ropewalk_core.flows import Step
from ropewalk_core.model import State, Status
from ropewalk_kernel import look

WIDTH, HEIGHT, GAP_X, GAP_Y = 168, 46, 44, 14
MOST_BOXES = 80
_MOST_SQUARES = 24
_ORDER = (State.FAILED, State.RUNNING, State.STARTING, State.STOPPING, State.WAITING, State.ASKED, State.STOPPED)


@dataclass(frozen=True)
class Box:
    """One box of the picture: a step, or all steps of a fan-out. ``needs`` are indexes of other boxes."""

    label: str
    steps: tuple[Step, ...]
    needs: frozenset[int] = frozenset()
    column: int = 0

    @property
    def state(self) -> State:
        """The state that matters most among the steps: a failure first, done only when all are."""
        states = {step.status.state for step in self.steps}
        return next((state for state in _ORDER if state in states), State.DONE)

    @property
    def summary(self) -> str:
        """The state in words; a fan-out counts."""
        if len(self.steps) == 1:
            return look.word(Status(state=self.state, note=self.steps[0].status.note))
        counts: dict[State, int] = {}
        for step in self.steps:
            counts[step.status.state] = counts.get(step.status.state, 0) + 1
        parts = [f"{count} {state.value}" for state, count in sorted(counts.items(), key=lambda one: one[0].value)]
        return f"{look.SIGNS[self.state]} {', '.join(parts)}"


def arrange(steps: Sequence[Step]) -> list[Box]:
    """Return the boxes of a run in drawing order, with their columns.

    Steps of one template that wait for the same boxes share a box: that is what a fan-out is. Steps of a circle, which
    no run has, are left out.
    """
    steps = without_groups(steps)
    boxes: dict[tuple[str, frozenset[int]], list[Step]] = {}
    numbers: dict[tuple[str, frozenset[int]], int] = {}
    where: dict[str, int] = {}
    for step, needed in _in_order(steps):
        key = (step.template or step.id, frozenset(where[need] for need in needed))
        boxes.setdefault(key, []).append(step)
        where[step.id] = numbers.setdefault(key, len(numbers))
    columns: list[int] = []
    for _, needs in boxes:
        columns.append(1 + max((columns[need] for need in needs), default=-1))
    return [
        Box(_label(group), tuple(group), needs, columns[at]) for at, ((_, needs), group) in enumerate(boxes.items())
    ]


def _in_order(steps: Sequence[Step]) -> Iterator[tuple[Step, list[str]]]:
    """Yield the steps with what of this run they need, each after that: by how far from a start they are."""
    known = {step.id for step in steps}
    needs = {step.id: [need for need in step.needs if need in known] for step in steps}
    missing = {name: len(set(some)) for name, some in needs.items()}
    after: dict[str, list[int]] = defaultdict(list)
    for number, step in enumerate(steps):
        for need in set(needs[step.id]):
            after[need].append(number)
    ready = [number for number, step in enumerate(steps) if not missing[step.id]]
    while ready:
        found = []
        for number in ready:
            yield steps[number], needs[steps[number].id]
            for follower in after[steps[number].id]:
                missing[steps[follower].id] -= 1
                found += [] if missing[steps[follower].id] else [follower]
        ready = sorted(found)


def without_groups(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that run something; who waited for a group waits for what is inside it."""
    groups = {step.id: step.needs for step in steps if step.kind == "group"}

    def through(needs: Sequence[str], seen: frozenset[str] = frozenset()) -> list[str]:
        found: list[str] = []
        for need in needs:
            if need in groups and need not in seen:
                found += through(groups[need], seen | {need})
            else:
                found.append(need)
        return found

    return [
        step.model_copy(update={"needs": tuple(dict.fromkeys(through(step.needs)))})
        for step in steps
        if step.id not in groups
    ]


def stem(name: str) -> str:
    """Return a step's name without its place in a fan-out: ``train(2:0.1)`` and ``train-2`` are ``train``."""
    return re.sub(r"\(.*\)$|-\d+$", "", name)


def svg(boxes: Sequence[Box]) -> str:
    """Return the picture; empty for nothing and for more boxes than anybody can read."""
    if not boxes or len(boxes) > MOST_BOXES:
        return ""
    places, width, height = _places(boxes)
    arrows = "".join(_arrow(places[need], places[at]) for at, box in enumerate(boxes) for need in sorted(box.needs))
    drawn = "".join(_box(box, *places[at]) for at, box in enumerate(boxes))
    title = look.text(", ".join(f"{box.label}: {box.summary}" for box in boxes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{title}">{arrows}{drawn}</svg>'
    )


def _label(group: list[Step]) -> str:
    return group[0].name if len(group) == 1 else f"{stem(group[0].name)} x {len(group)}"


def _places(boxes: Sequence[Box]) -> tuple[list[tuple[int, int]], int, int]:
    """Return the corner of each box, and the size of the picture; shorter columns are centered."""
    sizes: dict[int, int] = {}
    rows = []
    for box in boxes:
        rows.append(sizes.get(box.column, 0))
        sizes[box.column] = rows[-1] + 1
    tallest = max(sizes.values())
    places = []
    for box, row in zip(boxes, rows, strict=True):
        down = (tallest - sizes[box.column]) * (HEIGHT + GAP_Y) // 2
        places.append((2 + box.column * (WIDTH + GAP_X), 2 + down + row * (HEIGHT + GAP_Y)))
    return places, (max(sizes) + 1) * (WIDTH + GAP_X) - GAP_X + 4, tallest * (HEIGHT + GAP_Y) - GAP_Y + 4


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + WIDTH, start[1] + HEIGHT // 2, end[0], end[1] + HEIGHT // 2
    bend = max((x2 - x1) // 2, 12)
    path = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2 - 5} {y2}"
    line = f'<path d="{path}" fill="none" stroke="#8888" stroke-width="1.5"/>'
    return line + f'<path d="M{x2 - 6} {y2 - 4}L{x2} {y2}L{x2 - 6} {y2 + 4}Z" fill="#888"/>'


def _box(box: Box, x: int, y: int) -> str:
    color = f"var(--rw-{look.tone(box.state)})"
    label = box.label if len(box.label) <= 22 else box.label[:21] + "…"
    parts = [
        f"<g><title>{look.text(f'{box.label}: {box.summary}')}</title>",
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{color}" fill-opacity=".08" '
        f'stroke="{color}" stroke-width="1.5"/>',
        f'<text x="{x + 10}" y="{y + 18}" class="rw-name">{look.text(label)}</text>',
    ]
    if 1 < len(box.steps) <= _MOST_SQUARES:
        parts += [_square(step, x + 10 + at * 6, y + HEIGHT - 6) for at, step in enumerate(box.steps)]
    summary = box.summary if len(box.summary) <= 24 else box.summary[:23] + "…"
    parts.append(f'<text x="{x + 10}" y="{y + 34}" style="fill:{color}">{look.text(summary)}</text></g>')
    return "".join(parts)


def _square(step: Step, x: int, y: int) -> str:
    state = step.status.state
    faint = "" if state.terminal else ' fill-opacity=".35"'
    return f'<rect x="{x}" y="{y}" width="5" height="3" fill="var(--rw-{look.tone(state)})"{faint}/>'
