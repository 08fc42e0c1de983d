"""One worker actor as its driver sees it, and how to ask several at once. Ray is handed in, not imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Member:
    """A worker actor, in the group or on its way back."""

    number: int
    actor: Any
    returning: Any = field(default=None)  # answers when Ray has restarted the actor


def answered(ray: Any, answers: Iterable[tuple[Member, Any]], timeout_s: float) -> list[tuple[Member, Any]]:
    """Who answered in time, with the answer; the dead and the silent are left out."""
    pairs = list(answers)
    ready, _ = ray.wait([r for _, r in pairs], num_returns=len(pairs), timeout=timeout_s) if pairs else ([], [])
    result = []
    for member, reference in pairs:
        if reference in ready:
            try:
                result.append((member, ray.get(reference)))
            except ray.exceptions.RayActorError:
                continue
    return result


def is_back(ray: Any, member: Member) -> bool:
    """Whether a lost actor answers again; asks anew if the question was lost with it."""
    if member.returning is None:
        return False
    ready, _ = ray.wait([member.returning], timeout=0)
    if not ready:
        return False
    try:
        ray.get(member.returning)
    except ray.exceptions.ActorDiedError:
        member.returning = None
        return False
    except ray.exceptions.RayActorError:
        member.returning = member.actor.ready.options(max_task_retries=-1).remote()
        return False
    member.returning = None
    return True
