"""Every page's route in one router, which the application includes. Nothing else."""

from __future__ import annotations

from fastapi import APIRouter

from ropewalk_hub.pages import (
    comparison,
    durable,
    functions,
    help,
    home,
    live,
    people,
    saved,
    secrets,
    services,
    sharing,
    static,
    triggers,
    workflows,
)

router = APIRouter(include_in_schema=False)
# `comparison` comes before `workflows`, where any other word in its place is a run.
_WORKFLOWS = (comparison, workflows, saved)
_ALL = (static, live, help, home, services, functions, sharing, triggers, secrets, durable, *_WORKFLOWS, people)
for _one in _ALL:
    router.include_router(_one.router)
