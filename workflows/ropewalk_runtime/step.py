"""One attempt of a step: read its inputs, run the person's code, write its outputs whole.

A folder holds one attempt: ``inputs.json``, ``outputs.json`` (written once, by rename) and ``log``. Short inputs come
with the order, and short outputs are said on a pipe too; then the files are for a debugger, and for an engine that was
killed before it heard. They are not synced: a power cut may leave an attempt half, which is made again, because its
outcome counts only once the journal has it. The engine trusts outputs only with the attempt's own identifier in them,
not late or foreign ones. In an image the same step reads what Argo mounts: ``python -m ropewalk_runtime.step`` finds
its parameters and artifacts as files below ``/ropewalk``. Values arrive as files and never become source. Standard
library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import json
import operator
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk_runtime import beside, bundle, hidden, previews, storing, touched, values
from ropewalk_runtime.cells import CellFailed
from ropewalk_runtime.exec import MEMORY_EXIT, SIGNALED_EXIT, enter
from ropewalk_runtime.frames import MAX_SAID
from ropewalk_runtime.veil import Veil

MOUNT = Path("/ropewalk")
FACTS = "ropewalk-facts.json"
_LONGEST_TEXT = 256 * 1024
_LONGEST_FACT = 4096
_NOTHING = {"json": "null"}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Attempt:
    """A loaded attempt: what ran, with what, and how it failed."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    error: str = ""
    traceback: str = ""

    def __call__(self) -> Any:
        """Run it again here, with its own inputs."""
        return _call(self.function, self.arguments)


def main(
    folder: str | os.PathLike[str], trouble: str = "", inputs: dict[str, Any] | None = None, pipe: int | None = None
) -> int:
    """Run the attempt in the folder and return its exit code: 0 done, `MEMORY_EXIT` out of memory, a program's, else 1.

    Parameters
    ----------
    folder
        Of the attempt.
    trouble
        A sentence that says why its working folder cannot be used; then nothing is run.
    inputs
        What it is given; None where that is in the folder.
    pipe
        Where the outputs are said too, if they are short.
    """
    root, us, opened = Path(folder), os.getpid(), _identity(pipe)
    given = inputs if inputs is not None else json.loads((root / "inputs.json").read_text(encoding="utf-8"))
    veil = Veil(given["secrets"]) if given.get("secrets") else None
    beside.begin()
    try:
        if inputs is not None:
            (root / "inputs.json").write_text(json.dumps(inputs), encoding="utf-8")
        outputs = _unplaced(trouble) if trouble else _run(root, given)
    except BaseException as error:  # noqa: BLE001 - the person's code may raise anything
        outputs = _failure(error)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpid() != us:  # the person's code forked, and this is its child: the attempt is its parent's
        os._exit(_exit_code(outputs))
    _keep_beside(outputs, given)
    if veil is not None:
        veil.lift()
        outputs |= hidden.hide({key: outputs[key] for key in ("error", "traceback") if key in outputs})
    outputs["attempt"] = given.get("attempt", "")
    outputs["code"] = _exit_code(outputs)
    outputs["peak_memory"] = (
        max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        * 1024
    )
    text = json.dumps(outputs)
    try:
        write_whole(root / "outputs.json", text)
    except OSError as error:
        print(f"The outputs cannot be written: {error.strerror}.", file=sys.stderr)  # noqa: T201 - this is the log
        outputs = {**outputs, **_failure(error), "artifacts": {}, "parameters": {}, "code": 1}
        text = json.dumps(outputs)
    if pipe is not None and opened == _identity(pipe) and len(text) <= MAX_SAID:
        with contextlib.suppress(OSError):  # the person's code has filled it
            os.write(pipe, text.encode())
    return int(outputs["code"])


def _keep_beside(outputs: dict[str, Any], given: dict[str, Any]) -> None:
    """Name among the outputs, of a failure too, what the code left beside its result."""
    try:
        left = beside.kept(Path(given.get("store") or ""))
    except OSError as error:
        print(f"What lies beside the result cannot be kept: {error.strerror}.", file=sys.stderr)  # noqa: T201 - the log
        return
    if left:
        outputs["artifacts"] = {**outputs.get("artifacts", {}), **left}


def _identity(descriptor: int | None) -> tuple[int, int] | None:
    """Return what a descriptor leads to: the person's code may close it, and open something else of its number."""
    try:
        found = os.fstat(-1 if descriptor is None else descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _exit_code(outputs: dict[str, Any]) -> int:
    if outputs.get("problem") == "RW-OUT-OF-MEMORY":
        return MEMORY_EXIT
    return int(outputs.get("code") or (0 if outputs["ok"] else 1))


def load_attempt(folder: str | os.PathLike[str]) -> Attempt:
    """Return the function of an attempt with its own inputs, for a debugger in the kernel."""
    root = Path(folder)
    inputs = json.loads((root / "inputs.json").read_text(encoding="utf-8"))
    outputs = root / "outputs.json"
    facts = json.loads(outputs.read_text(encoding="utf-8")) if outputs.is_file() else {}
    function = bundle.load(inputs["bundle"], install=False)
    return Attempt(function, _arguments(inputs), facts.get("error", ""), facts.get("traceback", ""))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _run(root: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    return _run_command(root, inputs) if "command" in inputs else _run_python(inputs)


def _unplaced(trouble: str) -> dict[str, Any]:
    return {"ok": False, "problem": "RW-NOT-FOUND", "error": trouble}


# Python steps


def _run_python(inputs: dict[str, Any]) -> dict[str, Any]:
    with touched.watched() as besides:
        function = bundle.load(inputs["bundle"])
        result = _call(function, _arguments(inputs))
    store = Path(inputs["store"])
    saved = values.save_short(result, store) or values.save(result, store, pickles=bool(inputs.get("pickle")))
    parameters = {}
    if "result" in inputs.get("wants", ()):
        parameters["result"] = _as_text(result, "is read by a condition or a fan-out")
    if "items" in inputs.get("wants", ()):
        parameters["items"] = items_text(result)
    for place, one in enumerate(inputs.get("tests", ())):
        parameters[f"is-{place}"] = json.dumps(_holds(result, one["operator"], one["value"]))
    made = {"artifacts": {"result": saved.as_dict()}, "parameters": parameters}
    return {"ok": True, **made, **({"touched": besides.said} if besides.said else {})}


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    result = function(**arguments)
    return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result


async def _awaited(result: Any) -> Any:
    return await result


def _arguments(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(reference) for name, reference in inputs.get("arguments", {}).items()}


def _value(reference: dict[str, Any]) -> Any:
    """Return a value by reference: JSON text, a file of the store, or a list of references."""
    if "json" in reference:
        return json.loads(reference["json"])
    if "list" in reference:
        return [_value(one) for one in reference["list"]]
    return values.load(reference["file"])


def _as_text(result: Any, why: str) -> str:
    if not values.is_exact(result):
        raise TypeError(f"The result {why}, so it must be plain JSON values, and {values.inexact(result, 'result')}")
    text = values.text_of(result)
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"The result {why}, so it may have {_LONGEST_TEXT} characters, not {len(text)}")
    return text


def _holds(result: Any, sign: str, value: Any) -> bool:
    """Decide a condition of the workflow, where the result is what it is."""
    try:
        return bool(_OPERATORS[sign](result, value))
    except Exception as error:  # noqa: BLE001 - a comparison of the person's own may raise anything
        what = f"whether the result is {sign} {value!r}, and it is a {type(result).__name__}"
        raise TypeError(f"A condition asks {what}: {error}") from None


def items_text(result: Any) -> str:
    """Return what a fan-out over this result loops over: each value as JSON text, with its place in the list."""
    if not isinstance(result, list):
        raise TypeError(f"A fan-out needs a list, and this step returned {type(result).__name__}")
    _as_text(result, "is fanned out")
    return json.dumps([{"index": str(index), "value": values.text_of(one)} for index, one in enumerate(result)])


# Commands and scripts


def _run_command(root: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run a program of the person's own manifest: place its files, run it, collect what it says it writes."""
    for one in inputs.get("files", []):
        path = Path(one["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        if "text" in one:
            path.write_text(one["text"], encoding="utf-8")
        else:
            storing.copy(one["file"], path)
    command = list(inputs["command"])
    if "source" in inputs:
        script = root / "script"
        script.write_text(inputs["source"], encoding="utf-8")
        command.append(str(script))
    command += inputs.get("args", [])
    for place in [*inputs.get("output_files", {}).values(), *inputs.get("output_artifacts", {}).values()]:
        Path(place["path"]).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    code, said = _spawn(command, dict(os.environ) | inputs.get("environment", {}), inputs.get("capture", False))
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return {"ok": False, "error": f"The program {command[0]!r} {how}.", "code": code if code > 0 else SIGNALED_EXIT}
    parameters = {name: _read_output(name, place) for name, place in inputs.get("output_files", {}).items()}
    if inputs.get("capture"):
        parameters["result"] = said
    store = Path(inputs["store"])
    artifacts = {name: _keep(name, place, store) for name, place in inputs.get("output_artifacts", {}).items()}
    return {"ok": True, "parameters": parameters, "artifacts": {key: one for key, one in artifacts.items() if one}}


def _spawn(command: list[str], environment: dict[str, str], capture: bool) -> tuple[int, str]:
    """Run the program; its standard output is logged, and kept when a later step asks for it."""
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE if capture else None)
    except OSError as error:
        raise RuntimeError(f"The program {command[0]!r} cannot be started: {error.strerror}") from None
    said: list[str] = []
    size = 0
    for line in process.stdout or ():
        text = line.decode("utf-8", "replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        size += len(text)
        if size <= _LONGEST_TEXT:
            said.append(text)
    return process.wait(), "".join(said).rstrip("\n")


def _read_output(name: str, place: dict[str, Any]) -> str:
    path = Path(place["path"])
    if not path.is_file():
        if place.get("default") is not None:
            return str(place["default"])
        raise FileNotFoundError(f"The output parameter '{name}' was not written: there is no file {path}")
    if path.stat().st_size > _LONGEST_TEXT:
        raise ValueError(f"The output parameter '{name}' is larger than {_LONGEST_TEXT} bytes")
    return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")


def _keep(name: str, place: dict[str, Any], store: Path) -> dict[str, Any] | None:
    path = Path(place["path"])
    if not path.is_file():
        if place.get("optional"):
            return None
        raise FileNotFoundError(f"The output artifact '{name}' was not written: there is no file {path}")
    digest, size = values.keep_file(path, store)
    facts = {"media_type": "application/octet-stream", "type": "file", "preview": ""}
    return {"digest": digest, "size": size, **facts, "look": previews.of_file(path, size)}


# Failures


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, CellFailed):
        return dict(error.told)
    code = "RW-USER-CODE"
    if isinstance(error, MemoryError):
        code = "RW-OUT-OF-MEMORY"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = "RW-STORAGE-FULL"
    said = bundle.message(error).strip()
    name = type(error).__name__
    return {
        "ok": False,
        "problem": code,
        "error": f"{name}: {said}" if said else name,
        "traceback": bundle.user_traceback(error),
    }


def _mounted(mount: Path) -> dict[str, Any]:
    """Return the inputs of a step that runs in an image, from what Argo mounted."""
    arguments: dict[str, Any] = {}
    called = json.loads((mount / "call.json").read_text(encoding="utf-8"))
    for name in called["lists"]:
        arguments[name] = {"list": []}
    for path in sorted((mount / "parameters").glob("*")):
        text = path.read_text(encoding="utf-8")
        arguments[path.name] = {"json": _member(text) if path.name in called.get("members", ()) else text}
    for path in sorted((mount / "inputs").glob("*")):
        if path.is_dir():
            parts = sorted(path.iterdir(), key=lambda one: int(one.name))
            arguments[path.name] = {"list": [{"file": str(one)} for one in parts]}
        else:
            arguments[path.name] = {"file": str(path)}
    inputs = {"bundle": str(mount / "bundle"), "arguments": arguments, "store": str(mount / "store")}
    for name, index in sorted(map(_place, called.get("maybe", ()))):
        _left_out(arguments, name, index, mount / "inputs" / name)
    more = {"folder": called.get("folder", ""), "timeout": float(called.get("timeout") or 0.0)}
    more |= {"secrets": called["secrets"]} if called.get("secrets") else {}
    asked = {"wants": called["wants"], "tests": called.get("tests", []), "pickle": bool(called.get("pickle"))}
    return {**inputs, **more, **asked}


def _place(text: str) -> tuple[str, int]:
    """Return an argument's name and the place in its list; -1 where it is the argument itself."""
    name, _, index = text.partition("/")
    return name, int(index) if index else -1


def _left_out(arguments: dict[str, Any], name: str, index: int, folder: Path) -> None:
    """Have an argument, or a member of a list, be None where the step that gives it was left out."""
    if index < 0:
        arguments.setdefault(name, _NOTHING)
    elif not (folder / str(index)).exists():  # all before it are in the list by now
        arguments.setdefault(name, {"list": []})["list"].insert(index, _NOTHING)


def _member(text: str) -> str:
    """Return a loop's member as it was written: Argo puts text from a list's object in as its escaped form.

    JSON that nobody escaped either has quotes, and is then no text between quotes, or is the same in both forms.
    """
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def in_image(mount: Path = MOUNT) -> int:
    """Run a step from mounted files, and leave its outputs where the manifest says they are.

    Beside them lie the facts that an engine on one machine would read itself: digests, sizes, the traceback.
    """
    inputs = _mounted(mount)
    if inputs["timeout"]:
        watch = threading.Timer(inputs["timeout"], _too_late, (mount, inputs["timeout"]))
        watch.daemon = True
        watch.start()
    write_whole(mount / "inputs.json", json.dumps(inputs))
    code = main(mount, enter(inputs["folder"]) if inputs["folder"] else "")
    outputs = json.loads((mount / "outputs.json").read_text(encoding="utf-8"))
    target = mount / "outputs"
    target.mkdir(exist_ok=True)
    for name, facts in outputs.get("artifacts", {}).items():
        _given(mount / "store" / facts["digest"][:2] / facts["digest"], target / name)
    for name, text in outputs.get("parameters", {}).items():
        (target / f"{name}.json").write_text(text, encoding="utf-8")
    _tell(mount, outputs)
    if not outputs["ok"]:
        print(outputs.get("traceback") or outputs["error"], file=sys.stderr)  # noqa: T201 - the container's log
    return code


def _given(kept: Path, target: Path) -> None:
    """Put a file where Argo looks for it; the pod's own store ends with the pod, so the two may be one."""
    try:
        target.unlink(missing_ok=True)
        target.hardlink_to(kept)
    except OSError:  # they lie on two disks
        storing.copy(kept, target)


def _too_late(mount: Path, limit: float) -> None:
    """End the step, whatever it does; a pod's own limit would also count the time to fetch its image."""
    error = f"It took longer than its limit of {limit:g} seconds and was ended."
    _tell(mount, {"ok": False, "problem": "RW-TIMED-OUT", "error": error})
    print(error, file=sys.stderr, flush=True)  # noqa: T201 - the container's log
    os._exit(1)


def _tell(mount: Path, outputs: dict[str, Any]) -> None:
    (mount / "outputs").mkdir(exist_ok=True)
    write_whole(mount / "outputs" / FACTS, json.dumps(_facts(outputs)))


def _facts(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of the outputs; short, because a cluster keeps the facts of all steps in one object."""
    artifacts = {
        name: {key: one for key, one in facts.items() if key != "json" or len(one) <= _LONGEST_FACT}
        for name, facts in outputs.get("artifacts", {}).items()
    }
    for one in artifacts.values():
        one["look"] = previews.fitting(one.get("look") or {}, _LONGEST_FACT)
    told: dict[str, Any] = {key: outputs[key] for key in ("ok", "problem", "peak_memory") if key in outputs}
    told |= {"error": outputs["error"][:_LONGEST_FACT]} if outputs.get("error") else {}
    told |= {"traceback": outputs["traceback"][-4 * _LONGEST_FACT :]} if outputs.get("traceback") else {}
    return {**told, "artifacts": artifacts}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if len(sys.argv) > 1 else in_image())
