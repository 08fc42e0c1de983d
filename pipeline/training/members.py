"""One worker actor as its driver sees it, and how to ask several at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import ray

from pipeline.environment import code
from pipeline.errors import UserError


class Member:
    """A worker actor: alive, being restarted by Ray, or gone for good.

    Args:
        number: of the worker, for people.
        actor: its handle.
    """

    def __init__(self, number: int, actor: Any) -> None:
        self.number = number
        self.actor = actor
        self.gone = ""  # why it will not come back
        self.stranger = ""  # that it runs other code, in words
        self.served = False  # whether it ever took part
        self._question: Any = None

    def answers(self, wait_s: float = 0.0) -> bool:
        """Whether the actor lives; the question stays open if there is no answer yet."""
        if self.gone:
            return False
        if self._question is None:
            self._question = self.actor.ready.remote()
        ready, _ = ray.wait([self._question], timeout=wait_s)
        if not ready:
            return False
        question, self._question = self._question, None
        try:
            digest, folder = ray.get(question)
            if digest != code()[0]:  # its sums would be others, and nothing would tell
                self.gone = self.stranger = _other_code(folder)
            return not self.gone
        except ray.exceptions.ActorDiedError as error:
            self.gone = str(error).strip().splitlines()[-1]
        except ray.exceptions.RayActorError:
            pass  # being restarted: ask again later
        return False


def _other_code(folder: str) -> str:
    if folder == code()[1]:
        return f"The files in {folder} were changed since this command began. Start it again, with --resume."
    return (
        f"Every worker must run the code of this command, which is in {code()[1]}. Got that of {folder} on a node. "
        "Install the same version on every node, or send it there: somgrad submit."
    )


def refuse_strangers(members: Iterable[Member]) -> None:
    """Raises UserError where one of them runs other code."""
    for member in members:
        if member.stranger:
            raise UserError(member.stranger)


def assemble(members: Iterable[Member], wanted: int, timeout_s: float) -> list[Member]:
    """Waits until at least `wanted` of the members answer; returns those who do by then."""
    members, until = list(members), time.monotonic() + timeout_s
    present: list[Member] = []
    while True:
        present += [m for m in members if m not in present and m.answers(wait_s=0.05)]
        lost = sum(bool(m.gone) for m in members)
        if len(present) >= wanted or lost > len(members) - wanted or time.monotonic() > until:
            return sorted(present, key=lambda m: m.number)
        time.sleep(0.1)


def answered(answers: Iterable[tuple[Member, Any]], timeout_s: float) -> dict[Member, Any]:
    """Who answered in time, with the answer; the dead and the silent are left out.

    Raises:
        Exception: what a worker raised itself; that is a matter of the run, not of the machine.
    """
    pairs = list(answers)
    ready, _ = ray.wait([r for _, r in pairs], num_returns=len(pairs), timeout=timeout_s) if pairs else ([], [])
    result = {}
    for member, reference in pairs:
        if reference in ready:
            try:
                result[member] = ray.get(reference)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):  # or its node, answer and all
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
    return result


def named(members: Iterable[Member]) -> str:
    """Worker 1 was / Workers 0, 2 were."""
    numbers = sorted(m.number for m in members)
    return f"Worker {numbers[0]} was" if len(numbers) == 1 else f"Workers {', '.join(map(str, numbers))} were"
