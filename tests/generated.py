"""Manifests by the dozen: templates in templates, conditions, loops, retries, pauses; small, legal, and often odd.

`Generator` has a method for each thing that may be drawn. A feature that comes to the language gets a method of its
own, which `template` or `call` joins into what they return, and a few lines in ``interpreter``. Not here: DAGs that
fail fast, in which order counts (``unit/test_engine_property``).
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.engine_world import CODE

Part = dict[str, Any]
VALUES = ("1", "2", "yes", "[1, 2]", '["yes", "no"]', "[]", '[{"k": "yes"}]')
ITEMS = ([], [1, 2], ["yes", "{{inputs.parameters.of}}"], [{"k": "yes", "n": 1}, {"k": "no", "n": 2}], [True, "x y"])
WORDS = ("", "", ".Succeeded", ".Failed", ".Errored", ".Skipped", ".Omitted", ".AnySucceeded", ".AllFailed")
CODE_FILE = {"name": "ropewalk-bundle", "path": "/tmp/bundle", "s3": {"key": f"bundles/{CODE}"}}  # in no real place


class Generator:
    """Draws one manifest; `templates` are the finished ones, each of which calls earlier ones only."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.templates: list[Part] = []

    def one_in(self, count: int) -> bool:
        return self.draw(st.integers(0, count - 1)) == count - 1

    def pick(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def manifest(self) -> Part:
        for level in range(3):
            for _ in range(self.draw(st.integers(1, 3 - level // 2))):
                self.templates.append(self.leaf() if level == 0 else self.composite())
        last = {"onExit": self.templates[0]["name"]} if self.one_in(4) else {}
        limit = {"parallelism": self.draw(st.integers(1, 3))} if self.one_in(3) else {}
        spec = {"entrypoint": self.templates[-1]["name"], "templates": self.templates, **limit, **last}
        return {"kind": "Workflow", "spec": spec}

    def template(self, kind: str, what: Any, **more: Any) -> Part:
        given = {"parameters": [{"name": "of", "value": "nothing"}]}
        return {"name": f"p{len(self.templates)}", "inputs": given, kind: what, **more}

    # Leaves

    def leaf(self) -> Part:
        if self.one_in(6):
            return {"name": f"p{len(self.templates)}", "suspend": {"duration": self.pick(["0", "5s", "1h"])}}
        program = {"image": "python", "command": ["x"]}
        gives = {"parameters": [{"name": "v", "valueFrom": {"path": "/tmp/v"}}]}  # in no real place
        found = self.template("container", program, outputs=gives, **self.retry())
        if self.one_in(4):
            found["synchronization"] = {"mutexes": [{"name": self.pick(["m", "n"])}]}
        found["inputs"] = {**found["inputs"], "artifacts": [CODE_FILE]}
        return found

    def retry(self) -> Part:
        if not self.one_in(2):
            return {}
        found: Part = {"limit": str(self.draw(st.integers(0, 3)))}
        found |= (
            {"retryPolicy": self.pick(["Always", "OnError", "OnFailure", "OnTransientError"])} if self.one_in(2) else {}
        )
        found |= {"expression": "asInt(lastRetry.exitCode) == 3"} if self.one_in(3) else {}
        found |= {"backoff": {"duration": "2", "factor": "2", "cap": "10"}} if self.one_in(3) else {}
        return {"retryStrategy": found}

    # Composites

    def composite(self) -> Part:
        return self.dag() if self.draw(st.booleans()) else self.steps()

    def dag(self) -> Part:
        tasks: list[Part] = []
        for place in range(self.draw(st.integers(1, 5))):
            needed = self.draw(st.lists(st.integers(0, place - 1), unique=True, max_size=2)) if place else []
            before = [tasks[one] for one in sorted(needed)]
            task = self.call(f"t{place}", "tasks", before)
            if before:
                task["depends"] = self.pick([" && ", " || "]).join(self.term(one) for one in before)
            tasks.append(task)
        return self.template("dag", {"tasks": tasks, "failFast": False}, outputs=self.outputs("tasks", tasks))

    def term(self, task: Part) -> str:
        return f"{'!' if self.one_in(8) else ''}{task['name']}{self.pick(WORDS)}"

    def steps(self) -> Part:
        groups: list[list[Part]] = []
        before: list[Part] = []
        for place in range(self.draw(st.integers(1, 3))):
            groups.append([self.call(f"s{place}{one}", "steps", before) for one in range(self.draw(st.integers(1, 2)))])
            before = before + groups[-1]
        return self.template("steps", groups, outputs=self.outputs("steps", before))

    def outputs(self, kind: str, calls: list[Part]) -> Part:
        giving = self.giving(calls)
        if not giving:
            return {"parameters": []}
        source = {"parameter": f"{{{{{kind}.{self.pick(giving)['name']}.outputs.parameters.v}}}}"}
        default = {} if self.one_in(4) else {"default": self.pick(VALUES)}
        return {"parameters": [{"name": "v", "valueFrom": {**source, **default}}]}

    def giving(self, calls: list[Part]) -> list[Part]:
        """Return the calls whose template gives a value."""
        gives = {one["name"] for one in self.templates if one.get("outputs", {}).get("parameters")}
        return [one for one in calls if one["template"] in gives]

    # Calls

    def call(self, name: str, kind: str, before: list[Part]) -> Part:
        found: Part = {"name": name, "template": self.pick(self.templates)["name"]}
        found |= self.loop(kind, before) if self.one_in(3) else {}
        known = self.known(kind, before, found)
        found |= self.condition(known, kind, before) if self.one_in(4) else {}
        found |= (
            {"continueOn": self.pick([{"failed": True}, {"error": True}, {"failed": True, "error": True}])}
            if self.one_in(5)
            else {}
        )
        takes = next(one for one in self.templates if one["name"] == found["template"]).get("inputs")
        if takes and self.draw(st.booleans()):
            found["arguments"] = {"parameters": [{"name": "of", "value": self.pick(known)}]}
        return found

    def loop(self, kind: str, before: list[Part]) -> Part:
        how = self.pick(["items", "sequence", "param"])
        if how == "items":
            return {"withItems": self.pick(ITEMS)}
        if how == "sequence":
            start, end = (str(self.draw(st.integers(-1, 2))) for _ in range(2))
            return {"withSequence": {"start": start, "end": end, **({"format": "n%02d"} if self.one_in(3) else {})}}
        sources = [f"{{{{{kind}.{one['name']}.outputs.parameters.v}}}}" for one in self.giving(before)]
        return {"withParam": self.pick([*sources, '["yes", "no"]', "{{inputs.parameters.of}}"])}

    def known(self, kind: str, before: list[Part], call: Part) -> list[str]:
        """Return texts with what a call may refer to."""
        found = ["yes", "{{inputs.parameters.of}}"]
        found += [f"{{{{{kind}.{one['name']}.outputs.parameters.v}}}}" for one in self.giving(before)]
        items = call.get("withItems") or []
        if items and all(isinstance(one, dict) for one in items):
            return [*found, "{{item.k}}", "{{item.n}} times"]
        return [*found, "{{item}}", "<{{item}}>"] if {*call} & {"withItems", "withParam", "withSequence"} else found

    def condition(self, known: list[str], kind: str, before: list[Part]) -> Part:
        states = [f"{{{{{kind}.{one['name']}.status}}}}" for one in before]
        left = self.pick([one for one in known if " " not in one and "<" not in one] + states)
        return {"when": f"{left} {self.pick(['==', '!='])} {self.pick(['yes', '1', 'nothing', 'Succeeded'])}"}


@st.composite
def manifests(draw: st.DrawFn) -> Part:
    """Draw a manifest."""
    return Generator(draw).manifest()
