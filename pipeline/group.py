"""The workers of a run as Ray actors in a placement group.

Ray places, restarts and monitors; torch.distributed adds. What is ours: form the group, leave a broken
one at once, form it again from those who live (they all hold the same map), deal the tiles anew, and
repeat the round. Every forming has a generation number, so an answer from before cannot be mistaken for
one from after. W workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pipeline.checkpoint import Snapshot
from pipeline.config import ClusterConfig
from pipeline.errors import GroupTimeout, RoundFailed, WorkerLost
from pipeline.members import Member, answered, is_back
from pipeline.plan import TrainingPlan
from pipeline.session import Session
from pipeline.worker import Report

_ANSWER_S = 10.0  # a living worker answers its control thread in milliseconds
_ATTEMPTS = 5  # formings in a row that may fail without a worker being lost


class WorkerGroup:
    """Ray actors, one per worker, that compute every round together.

    Args:
        config: how many workers, with what.
        session: a Ray cluster that is connected.
        say: told in one line what happened to a worker.
    """

    def __init__(self, config: ClusterConfig, session: Session, say: Callable[[str], None]) -> None:
        self._config = config
        self._say = say
        self._driver = session.driver
        self._placement, self._owns_placement = session.place(config)
        self._all = [Member(n, session.actor(config, self._placement, n)) for n in range(config.workers)]
        self._members: list[Member] = []
        self._running: dict[Any, Member] = {}
        self._generation = 0
        self._until = 0

    def start(self, plan: TrainingPlan, snapshot: Snapshot) -> None:
        """Waits until the workers live, gives them the run and forms the group."""
        import ray

        self._plan, self._last = ray.put(plan), snapshot
        answers = {m.actor.ready.remote(): m for m in self._all}
        ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=self._config.start_s)
        if late:
            raise GroupTimeout(
                f"{len(late)} of {len(answers)} workers did not start within {self._config.start_s:g} s. "
                "Give cluster.start_s more, or ask for fewer workers."
            )
        ray.get(ready)
        self._install(self._all, ray.put(snapshot))
        self._members = list(self._all)
        if not self._form():
            self._recover("the group could not be formed")

    def submit(self, until: int) -> None:
        """Begins a block; workers that Ray has restarted join first."""
        self._until = until
        self._admit()
        self._begin()

    def wait(self) -> Snapshot:
        """Ends the block, over as many workers as live by then."""
        while True:
            reports, trouble = self._gather()
            if not trouble:
                return self._agree(reports)
            self._recover(trouble)
            self._begin()

    def latest(self) -> Snapshot:
        """Leaves the running block; the map of the most advanced worker, or the last one seen here."""
        import ray

        snapshots = [self._last]
        if self._members:
            self._leave(self._members)
            answers = [m.actor.snapshot.remote() for m in self._members]
            snapshots += [s for _, s in answered(ray, zip(self._members, answers, strict=True), _ANSWER_S) if s]
        return max(snapshots, key=lambda s: s.state.round)

    def close(self) -> None:
        """Ends the actors and gives the placement back."""
        import ray

        for member in self._all:
            ray.kill(member.actor, no_restart=True)
        self._members = []
        if self._owns_placement:
            ray.util.remove_placement_group(self._placement)

    def pids(self) -> list[int]:
        """Process ids of the members, for tests that break things."""
        import ray

        return ray.get([m.actor.pid.remote() for m in self._members])

    def _begin(self) -> None:
        self._running = {m.actor.run.remote(self._generation, self._until): m for m in self._members}

    def _gather(self) -> tuple[list[Report], str]:
        """Reports of all members, or the first trouble in words; the lost one is no member any more."""
        import ray

        reports: list[Report] = []
        waiting = dict(self._running)
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            member = waiting.pop(ready[0])
            try:
                report = ray.get(ready[0])
            except ray.exceptions.RayActorError:
                self._lose(member)
                return [], f"worker {member.number} was lost"
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            if report.broken:
                lost = self._find_lost(waiting)
                return [], lost or f"worker {member.number} reports: {report.broken}"
            reports.append(report)
        return reports, ""

    def _find_lost(self, waiting: dict[Any, Member]) -> str:
        """When a peer dies the survivors err first; give Ray a moment to say who it was."""
        import ray

        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=1.0) if waiting else ([], [])
        lost = []
        for reference in ready:
            try:
                ray.get(reference)
            except ray.exceptions.RayActorError:
                self._lose(waiting[reference])
                lost.append(waiting[reference].number)
            except ray.exceptions.RayTaskError:
                continue
        return f"worker {', '.join(map(str, lost))} was lost" if lost else ""

    def _agree(self, reports: list[Report]) -> Snapshot:
        digests = {report.digest for report in reports}
        if len(digests) != 1:
            raise RoundFailed(
                f"All {len(reports)} workers must hold the same map after round {reports[0].round}. "
                f"Got {len(digests)} digests."
            )
        self._last = next(report.snapshot for report in reports if report.snapshot is not None)
        return self._last

    def _lose(self, member: Member) -> None:
        """Takes a worker out; Ray restarts it, and it is asked to come back."""
        if member in self._members:
            self._members.remove(member)
        member.returning = member.actor.ready.options(max_task_retries=-1).remote()

    def _recover(self, trouble: str) -> None:
        """Leaves the broken group and forms a new one at the most advanced map that is left."""
        import ray

        before = len(self._all)
        for _ in range(_ATTEMPTS):
            self._leave(self._members)
            self._drop_silent()
            if not self._members:
                self._wait_for_one()
            answers = [(m, m.actor.progress.remote()) for m in self._members]
            rounds = dict(answered(ray, answers, self._config.collective_s))
            for member in [m for m in self._members if m not in rounds]:
                self._lose(member)
            if not self._members:
                continue
            best = max(self._members, key=lambda m: (rounds[m], -m.number))
            behind = [m for m in self._members if rounds[m] != rounds[best] or m is not best]
            if rounds[best] < self._last.state.round:
                source, behind = ray.put(self._last), list(self._members)
            else:
                source = best.actor.snapshot.remote()
            self._members.sort(key=lambda m: (m is not best, m.number))
            self._install(behind, source)
            if self._members and self._form():
                at = max(rounds[best], self._last.state.round)
                self._say(
                    f"{trouble[:1].upper()}{trouble[1:]}. Going on at round {at} "
                    f"with {len(self._members)} of {before} workers."
                )
                return
        raise WorkerLost(f"{trouble[:1].upper()}{trouble[1:]}, and no new group could be formed.")

    def _leave(self, members: Iterable[Member]) -> None:
        """Frees every member from its collective, on its control thread; who does not answer hangs."""
        import ray

        answers = [(m, m.actor.leave.options(concurrency_group="control").remote()) for m in members]
        alive = {m for m, _ in answered(ray, answers, _ANSWER_S)}
        for member in [m for m, _ in answers if m not in alive]:
            ray.kill(member.actor, no_restart=False)
            self._lose(member)

    def _drop_silent(self) -> None:
        """Takes back those that Ray has restarted in the meantime, unasked."""
        import ray

        for member in self._all:
            if member not in self._members and is_back(ray, member):
                self._members.append(member)

    def _wait_for_one(self) -> None:
        """All are lost: waits until Ray has brought one back."""
        import ray

        references = [m.returning for m in self._all if m.returning is not None]
        ray.wait(references, num_returns=1, timeout=self._config.start_s)
        self._drop_silent()
        if not self._members:
            raise WorkerLost(
                f"All {len(self._all)} workers were lost; none came back within {self._config.start_s:g} s. "
                "The last checkpoint is intact; --resume goes on from it."
            )

    def _admit(self) -> None:
        """Between two blocks all maps are equal: whoever is back takes a copy and joins."""
        import ray

        back = [m for m in self._all if m not in self._members and is_back(ray, m)]
        if not back:
            return
        self._leave(self._members)
        self._install(back, ray.put(self._last))
        self._members = sorted([*self._members, *back], key=lambda m: m.number)
        names = ", ".join(str(m.number) for m in back)
        if self._form():
            self._say(f"Worker {names} is back. Going on with {len(self._members)} of {len(self._all)} workers.")
        else:
            self._recover(f"worker {names} could not join")

    def _install(self, members: Iterable[Member], source: Any) -> None:
        import ray

        members = list(members)
        answers = [(m, m.actor.install.remote(self._plan, source)) for m in members]
        for member, reference in answers:
            try:
                ray.get(reference)
            except ray.exceptions.RayActorError:
                self._lose(member)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None

    def _form(self) -> bool:
        """Forms the group of the current members; False if one of them could not join."""
        import ray

        self._generation += 1
        members, config = self._members, self._config
        if not members:
            return False
        if len(members) == 1:
            answers = [(members[0], members[0].actor.alone.remote(self._generation))]
        else:
            try:
                address = ray.get(members[0].actor.listen.remote(self._driver, config.join_s), timeout=_ANSWER_S)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                self._lose(members[0])
                return False
            answers = [
                (m, m.actor.join.remote(
                    self._generation, address, rank, len(members), config.join_s, config.collective_s
                ))
                for rank, m in enumerate(members)
            ]  # fmt: skip
        joined = dict(answered(ray, answers, config.join_s + _ANSWER_S))
        for member in [m for m, _ in answers if m not in joined]:
            self._lose(member)
        return len(joined) == len(answers) and all(joined.values())
