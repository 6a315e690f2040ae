"""Every field of a resource with another name, or with a value of another type."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]


@dataclass(frozen=True)
class Mutation:
    """A resource of which one field is wrong: where (/spec/ports/0/name), how, and what it had."""

    path: str
    how: str
    before: object
    resource: Resource

    def __str__(self) -> str:
        return f"{self.resource.get('kind')} {self.path}: {self.how}"


def mutations(resource: Resource) -> Iterator[Mutation]:
    """Each field renamed; each value replaced by others: a list for all but lists, a number for a text, a text for the
    rest."""
    for steps, value in list(_fields(resource, ())):
        path = "".join("/" + str(step).replace("/", "~1") for step in steps)  # as a JSON pointer
        if isinstance(steps[-1], str):
            copied, parent = _copy(resource, steps)
            parent[f"{steps[-1]}X"] = parent.pop(steps[-1])
            yield Mutation(path, "another name", value, copied)
        for other in _others(value):
            copied, parent = _copy(resource, steps)
            parent[steps[-1]] = other
            yield Mutation(path, f"{type(other).__name__} for {type(value).__name__}", value, copied)


def _fields(value: Any, steps: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in items:
        yield (*steps, step), below
        yield from _fields(below, (*steps, step))


def _others(value: object) -> list[object]:
    if isinstance(value, list):
        return ["text"]
    if isinstance(value, str):
        return [["text"], 7]
    return [["text"], "text"]


def _copy(resource: Resource, steps: tuple[str | int, ...]) -> tuple[Resource, Any]:
    copied = copy.deepcopy(resource)
    parent: Any = copied
    for step in steps[:-1]:
        parent = parent[step]
    return copied, parent
