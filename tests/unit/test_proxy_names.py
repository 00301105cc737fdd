"""The proxy goes on with the address that it knew while nobody answers for names, and believes every other answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ropewalk_hub import node

MODULE = Path(node.__file__).with_name("names.mjs")
TRY = """
const { remembering } = await import(process.argv[1]);
const script = JSON.parse(process.argv[2]), said = [];
const look = remembering((name, options, done) => {
  const next = script.shift();
  next.startsWith("E") ? done(Object.assign(new Error(next), { code: next })) : done(null, next, 4);
});
while (script.length) {
  look("platform.ropewalk", { family: 0 }, (error, address) => said.push(error ? error.code : address));
}
look.length && process.stdout.write(JSON.stringify(said));
"""


@pytest.mark.parametrize(
    ("asked", "heard"),
    [
        (["10.0.0.1", "EAI_AGAIN", "10.0.0.2", "EAI_AGAIN"], ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"]),
        (["EAI_AGAIN", "10.0.0.1"], ["EAI_AGAIN", "10.0.0.1"]),
        (["10.0.0.1", "ENOTFOUND"], ["10.0.0.1", "ENOTFOUND"]),
    ],
)
def test_what_was_found_last_is_used_while_nobody_answers(asked: list[str], heard: list[str]) -> None:
    folder = node.find()
    assert folder is not None, "run make setup"
    argv = [str(folder / "node"), "--input-type=module", "--eval", TRY, MODULE.as_uri(), json.dumps(asked)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == heard
