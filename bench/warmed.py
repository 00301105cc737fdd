"""What `bench.warm` runs as a person's program: deploys two functions that return what they get; JSON at the end.

One takes a call at a time, in as many workers as a function has by default; the other takes 64 side by side in one.
"""

from __future__ import annotations

import json
import sys

import ropewalk


def echo(value: object) -> object:
    return value


async def many(value: object) -> object:
    return value


def main() -> int:
    one = ropewalk.functions.deploy(echo, idle=600.0)
    other = ropewalk.functions.deploy(many, concurrency=64, max_workers=1, idle=600.0)
    if [one({"v": 42}), other({"v": 42})] != [{"v": 42}] * 2:
        raise RuntimeError("the functions do not return what they get")
    sys.stdout.write("\n" + json.dumps({"one": one.url, "many": other.url}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
