"""Run programs as steps: each value is one argument or a file, whatever is in it, and no shell reads it."""

from __future__ import annotations

from ropewalk import program, step, workflow

split = program(["tr", "-s", "{letters}", r"\n"], stdin="text", name="split")
ranked = program(["sort", "-o", "{sorted:out}", "{words:file}"])
count = program(
    ["{name}", "{words:file}"], script='#!/bin/sh\necho "{\\"$1\\": $(grep -c . "$2")}"\n', returns="json", name="count"
)


@step
def first(words: bytes, counted: dict[str, int]) -> str:
    return f"{words.split()[0].decode()} of {counted}"


@workflow
def words(text: str = "to be or not to be") -> object:
    parts = split(" ", text)
    return first(ranked(parts), count("it's $HOME", parts))


EXAMPLE, ARGUMENTS, RESULT = words, {}, 'be of {"it\'s $HOME": 6}'
