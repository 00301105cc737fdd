"""What a workflow's manifest means, read as plainly as can be: recursive, one call after another, without events.

It knows nothing of the engine, whose answers are compared with it. What an attempt gives comes from a script. Not here:
anything that depends on which of two things ends first (a DAG that fails fast).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, str]
FAILURES = ("Failed", "Error")


class Unknown(Exception):
    """A tag has no value, or a text is not what it has to be."""


@dataclass
class End:
    """How a node ended: its phase, what it gave, and how often it was tried again."""

    phase: str
    outputs: Values = field(default_factory=dict)
    tries: int = 0
    failed: bool = False
    members: list[End] = field(default_factory=list)


def fill(text: Any, values: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise Unknown(match[1])
        return values[match[1]]

    return re.sub(r"{{(.*?)}}", one, str(text))


def together(texts: list[str]) -> str:
    try:
        found = [json.loads(one) for one in texts]
    except ValueError:
        return json.dumps(texts)
    return json.dumps(texts if any(isinstance(one, str) for one in found) else found)


class Interpreter:
    """Reads one manifest; ``attempt(path, number)`` says how an attempt ends: ("ok", value), (exit code, "")."""

    def __init__(self, manifest: dict[str, Any], attempt: Callable[[str, int], tuple[str, str]]) -> None:
        self.spec, self.attempt = manifest["spec"], attempt
        self.templates = {one["name"]: one for one in self.spec["templates"]}
        self.ends: dict[str, End] = {}

    def run(self) -> str:
        phase = self.template("", self.spec["entrypoint"], {}, {}).phase
        if "onExit" in self.spec:
            last = self.template("onExit", self.spec["onExit"], {}, {})
            phase = last.phase if phase == "Succeeded" and last.phase in FAILURES else phase
        return phase

    def template(self, path: str, name: str, call: dict[str, Any], outer: Values) -> End:
        template = self.templates[name]
        given = {one["name"]: one["value"] for one in call.get("arguments", {}).get("parameters", [])}
        try:
            wanted = template.get("inputs", {}).get("parameters", [])
            inputs = {one["name"]: fill(given.get(one["name"], one.get("value")), outer) for one in wanted}
        except Unknown:
            return self.note(path, End("Error"), call)
        values = {f"inputs.parameters.{key}": value for key, value in inputs.items()}
        kind = next(one for one in ("dag", "steps", "suspend", "container") if one in template)
        return self.note(path, getattr(self, kind)(path, template, values), call)

    def note(self, path: str, end: End, call: dict[str, Any]) -> End:
        go_on = call.get("continueOn", {})
        forgiven = {"Failed": go_on.get("failed"), "Error": go_on.get("error")}.get(end.phase)
        end.failed = end.phase in FAILURES and not forgiven
        self.ends[path] = end
        return end

    # Leaves

    def suspend(self, path: str, template: dict[str, Any], values: Values) -> End:
        return End("Succeeded")

    def container(self, path: str, template: dict[str, Any], values: Values) -> End:
        retry, tries = template.get("retryStrategy", {"limit": 0}), 0
        while True:
            how, value = self.attempt(path, tries)
            if how == "ok":
                return End("Succeeded", {"v": value}, tries)
            phase = "Error" if how == "error" else "Failed"
            policy = retry.get("retryPolicy", "Always" if "expression" in retry else "OnFailure")
            again = policy == "Always" or (policy == "OnFailure") == (phase == "Failed")
            if "expression" in retry:  # the only one that is generated
                again = again and how == "3"
            if not again or tries >= int(retry["limit"]):
                return End(phase, tries=tries)
            tries += 1

    # Calls

    def call(self, path: str, call: dict[str, Any], outer: Values) -> End:
        try:
            items = self.items(call, outer)
        except Unknown:
            return self.note(path, End("Error"), call)
        if items is None:
            return self.one(path, call, outer)
        ends = []
        for place, item in enumerate(items):
            parts = {f"item.{key}": self.text(one) for key, one in item.items()} if isinstance(item, dict) else {}
            ends.append(self.one(f"{path}({place})", call, {**outer, "item": self.text(item), **parts}))
        bad = [one.phase for one in ends if one.phase in FAILURES]
        phase = "Skipped" if not items else "Error" if "Error" in bad else "Failed" if bad else "Succeeded"
        given = [one.outputs["v"] for one in ends if "v" in one.outputs and phase == "Succeeded"]
        return self.note(path, End(phase, {"v": together(given)} if given else {}, members=ends), call)

    def items(self, call: dict[str, Any], values: Values) -> list[Any] | None:
        if "withSequence" in call:
            start, end = (int(call["withSequence"][one]) for one in ("start", "end"))
            numbers = range(start, end + 1) if end >= start else range(start, end - 1, -1)
            return [call["withSequence"].get("format", "%d") % one for one in numbers]
        if "withParam" in call:
            try:
                found = json.loads(fill(call["withParam"], values))
            except ValueError as error:
                raise Unknown from error
            if not isinstance(found, list):
                raise Unknown
            return found
        found = call.get("withItems")
        return [fill(one, values) if isinstance(one, str) else one for one in found] if found is not None else None

    def text(self, item: Any) -> str:
        return item if isinstance(item, str) else json.dumps(item)

    def one(self, path: str, call: dict[str, Any], outer: Values) -> End:
        if "when" in call:
            left, how, right = call["when"].split(" ")
            try:
                if (self.number(fill(left, outer)) == self.number(right)) != (how == "=="):
                    return self.note(path, End("Skipped"), call)
            except Unknown:
                return self.note(path, End("Error"), call)
        return self.template(path, call["template"], call, outer)

    def number(self, text: str) -> float | str:
        return float(text) if text.isdigit() else text

    # Composites

    def results(self, kind: str, name: str, end: End) -> Values:
        return {f"{kind}.{name}.status": end.phase} | {
            f"{kind}.{name}.outputs.parameters.{key}": one for key, one in end.outputs.items()
        }

    def closed(self, template: dict[str, Any], phase: str, values: Values) -> End:
        outputs: Values = {}
        for one in template["outputs"]["parameters"] if phase == "Succeeded" else ():
            source = one["valueFrom"]
            try:
                outputs[one["name"]] = fill(source["parameter"], values)
            except Unknown:
                if "default" not in source:
                    return End("Error")
                outputs[one["name"]] = source["default"]
        return End(phase, outputs)

    def steps(self, path: str, template: dict[str, Any], values: Values) -> End:
        phase = "Succeeded"
        for group in template["steps"]:
            ends = {one["name"]: self.call(f"{path}/{one['name']}".lstrip("/"), one, values) for one in group}
            for name, end in ends.items():
                values = values | self.results("steps", name, end)
            if any(one.failed for one in ends.values()):
                phase = "Failed"
                break
        return self.closed(template, phase, values)

    def dag(self, path: str, template: dict[str, Any], values: Values) -> End:
        ends: dict[str, End] = {}
        broken: set[str] = set()
        """Tasks that failed, or were left out because of a failure above them."""
        tasks = template["dag"]["tasks"]
        needed = {name: re.findall(r"t\d+", task.get("depends", "")) for task in tasks for name in [task["name"]]}
        for task in tasks:  # each comes after those it needs
            name, here = task["name"], f"{path}/{task['name']}".lstrip("/")
            known = values.copy()
            for before in needed[name]:
                known |= self.results("tasks", before, ends[before])
            ends[name] = (
                self.call(here, task, known) if self.wanted(task, ends) else self.note(here, End("Omitted"), {})
            )
            values = values | self.results("tasks", name, ends[name])
            if ends[name].failed or (ends[name].phase == "Omitted" and broken & set(needed[name])):
                broken.add(name)
        last = {task["name"] for task in tasks} - {one for many in needed.values() for one in many}
        if not broken & last:
            return self.closed(template, "Succeeded", values)
        return End("Error" if any(one.phase == "Error" for one in ends.values()) else "Failed")

    def wanted(self, task: dict[str, Any], ends: dict[str, End]) -> bool:
        text = task.get("depends", "")
        found = [self.holds(term, ends) for term in re.split(r" (?:&&|\|\|) ", text) if term]
        return any(found) if "||" in text else all(found)

    def holds(self, term: str, ends: dict[str, End]) -> bool:
        if term.startswith("!"):
            return not self.holds(term[1:], ends)
        name, _, word = term.partition(".")
        end = ends[name]
        members = [one.phase for one in end.members or [end]]
        if word == "AnySucceeded":
            return "Succeeded" in members
        if word == "AllFailed":
            return set(members) == {"Failed"}
        forgiven = end.phase in FAILURES and not end.failed
        return (
            end.phase == word.replace("Errored", "Error") if word else forgiven or end.phase in ("Succeeded", "Skipped")
        )
