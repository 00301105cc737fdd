"""A Hera program, unchanged: ``ropewalk.submit(w)`` runs it here, `w.create()` runs it on a cluster.

Hera puts values into the source of its scripts; that is for a person's own program. Steps of ours never do that.
"""

from hera.workflows import DAG, Parameter, Workflow, script


@script(image="python:3.11", outputs=[Parameter(name="doubled", value_from={"path": "/tmp/doubled"})])
def double(number: int):  # type: ignore[no-untyped-def]
    with open("/tmp/doubled", "w") as file:  # noqa: PTH123
        file.write(str(2 * number))


@script(image="python:3.11")
def show(text: str):  # type: ignore[no-untyped-def]
    print("got", text)  # noqa: T201


def make() -> Workflow:
    with Workflow(generate_name="hera-", entrypoint="main", arguments={"start": 21}) as made, DAG(name="main"):
        first = double(name="first", arguments={"number": "{{workflow.parameters.start}}"})
        shown = show(name="shown", arguments={"text": first.get_parameter("doubled")})
        first >> shown
    return made


EXAMPLE, ARGUMENTS, RESULT = make(), {}, None
