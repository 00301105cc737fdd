"""Every page's route in one router, which the application includes. Nothing else."""

from __future__ import annotations

from fastapi import APIRouter

from ropewalk_hub.pages import (
    durable,
    functions,
    help,
    home,
    live,
    people,
    secrets,
    services,
    sharing,
    static,
    triggers,
    workflows,
)

router = APIRouter(include_in_schema=False)
for _one in (static, live, help, home, services, functions, sharing, triggers, secrets, durable, workflows, people):
    router.include_router(_one.router)
