"""The workers of a run as Ray actors in a placement group.

Ray places, restarts and monitors; torch.distributed adds. What is ours: form the group, leave a broken
one at once, form it again from those who live (they all hold the same map), deal the tiles anew, and
repeat the round. Every forming has a generation number, so an answer from before cannot be mistaken for
one from after. W workers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import ray

from pipeline.cluster.session import Session, needed
from pipeline.config import ClusterConfig
from pipeline.errors import GroupTimeout, RoundFailed, WorkerLost
from pipeline.training.checkpoint import Snapshot
from pipeline.training.members import Member, answered, assemble, named, refuse_strangers
from pipeline.training.plan import TrainingPlan
from pipeline.training.worker import Report, Worker, as_actor

_ANSWER_S = 10.0  # a living worker answers on its control thread in milliseconds
_ATTEMPTS = 5  # formings in a row that may fail
_FRUITLESS = 20  # groups in a row that may end without a round
_MOST_PATIENCE = 16  # times cluster.collective_s, at most


class WorkerGroup:
    """Ray actors, one per worker, that compute every round together.

    Args:
        config: how many workers, with what.
        session: a Ray cluster that is connected.
        say: told in one line what happened to a worker.
        kind: class of the workers.
    """

    def __init__(
        self, config: ClusterConfig, session: Session, say: Callable[[str], None], kind: type[Worker] = Worker
    ) -> None:
        self._config = config
        self._say = say
        self._driver = session.driver
        self._placement = session.place(config)
        self._actors: list[Member] = []
        self._members: list[Member] = []
        try:
            for n in range(config.workers):
                self._actors.append(Member(n, session.actor(config, self._placement, n, as_actor(kind))))
        except BaseException:
            self.close()
            raise
        self._all = self._actors
        self._running: dict[Any, Member] = {}
        self._generation = 0
        self._until = 0
        self._begun = 0.0
        self._collective_s = config.collective_s  # grows if workers turn out to be slow, not lost

    def start(self, plan: TrainingPlan, snapshot: Snapshot) -> None:
        """Waits until enough workers live, gives them the run and forms the group."""
        self._leave(self._members)
        self._plan, self._last = ray.put(plan), snapshot
        self._members = self._present()
        if others := [m for m in self._all if m not in self._members]:
            how = f"are gone ({others[0].gone})" if all(m.gone for m in others) else "join later"
            self._say(f"Starting with {len(self._members)} of {len(self._all)} workers; the others {how}.")
        self._install(self._members, ray.put(snapshot))
        if not self._form():
            self._recover("the group could not be formed")

    def submit(self, until: int) -> None:
        """Begins a block; workers that Ray has restarted join first."""
        self._until = until
        self._admit()
        self._begin()

    def wait(self) -> Snapshot:
        """Ends the block, over as many workers as live by then; RoundFailed where no round is finished any more."""
        reached, fruitless = -1, 0
        while True:
            reports, trouble = self._gather()
            if not trouble:
                return self._agree(reports)
            at = self._recover(trouble)
            fruitless = 0 if at > reached else fruitless + 1
            if fruitless >= _FRUITLESS:
                raise RoundFailed(f"No round after {at} was finished in {fruitless} attempts. The last: {trouble}.")
            reached = max(at, reached)
            self._begin()

    def latest(self) -> Snapshot:
        """Leaves the running block; the map of the most advanced worker, or the last one seen here."""
        snapshots = [self._last]
        with contextlib.suppress(Exception):  # asked when something went wrong: it may be Ray that is gone
            self._leave(self._members)
            answers = [(m, m.actor.snapshot.remote()) for m in self._members]
            snapshots += [s for s in answered(answers, _ANSWER_S).values() if s is not None]
        return max(snapshots, key=lambda s: s.state.round)

    def close(self) -> None:
        """Ends the actors and gives the placement back."""
        for member in self._actors:
            ray.kill(member.actor, no_restart=True)
        self._members = []
        if self._placement.ours:
            ray.util.remove_placement_group(self._placement.group)

    def resize(self, workers: int) -> None:
        """Uses this many of the actors from the next start on; the others idle."""
        if not 1 <= workers <= len(self._actors):
            raise ValueError(f"workers must be in [1, {len(self._actors)}], the actors there are. Got {workers}.")
        self._leave(self._members)
        self._members, self._all = [], self._actors[:workers]

    def pids(self) -> list[int]:
        """Process ids of the workers; to be asked between two runs."""
        return self.asked("pid")

    def asked(self, question: str, *arguments: Any) -> list[Any]:
        """What every worker answers to a method, in the order of their numbers; between two blocks."""
        return ray.get([getattr(m.actor, question).remote(*arguments) for m in self._present()])

    def _present(self) -> list[Member]:
        """The workers, as soon as enough of them live."""
        wanted = min(needed(self._config), len(self._all))
        present = assemble(self._all, wanted, self._config.start_s)
        refuse_strangers(self._all)
        if len(present) < wanted:
            if gone := [m.gone for m in self._all if m.gone]:
                raise WorkerLost(f"A worker could not start: {gone[0]}")
            raise GroupTimeout(
                f"{wanted - len(present)} of {wanted} workers did not start within "
                f"{self._config.start_s:g} s. Give cluster.start_s more, or ask for fewer workers."
            )
        return present

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._running = {m.actor.run.remote(self._generation, self._until): m for m in self._members}

    def _gather(self) -> tuple[list[Report], str]:
        """Reports of all members; at the first trouble all leave the block, and it is put into words."""
        reports: list[Report] = []
        waiting = dict(self._running)
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=self._collective_s)
            if not ready:  # a long block, or one worker alone that hangs: no peer can miss it
                if hung := self._ask(waiting.values(), "ready"):
                    return [], self._trouble([], hung, "", waiting)
                continue
            member = waiting.pop(ready[0])
            report = answered([(member, ready[0])], 0.0).get(member)
            if report is None:
                return [], self._trouble([member], [], "", waiting)
            if report.broken:
                words = f"worker {member.number} reports: {report.broken}"
                return [], self._trouble([], [], words, waiting)
            reports.append(report)
        return reports, ""

    def _trouble(self, lost: list[Member], hung: list[Member], reported: str, waiting: dict[Any, Member]) -> str:
        """Frees the survivors, takes out the lost; a peer errs before Ray can say who died."""
        slow = time.monotonic() - self._begun >= self._collective_s
        hung = [*hung, *self._leave([m for m in self._members if m not in lost])]
        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=_ANSWER_S) if waiting else ([], [])
        pairs = [(waiting[reference], reference) for reference in ready]
        lost = [*lost, *(m for m, _ in pairs if m not in answered(pairs, 0.0) and m not in hung)]
        for one in lost:
            self._lose(one)
        if not lost and not hung and slow:
            self._collective_s = min(2 * self._collective_s, _MOST_PATIENCE * self._config.collective_s)
            return f"workers are slow but alive ({reported}); they now have {self._collective_s:g} s for a collective"
        words = [f"{named(lost)} lost"] if lost else []
        words += [f"{named(hung)} ended, having hung"] if hung else []
        return ", ".join(words) or reported

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
        """Takes a worker out. Ray restarts it; it comes back at a block's end."""
        if member in self._members:
            self._members.remove(member)

    def _recover(self, trouble: str) -> int:
        """Forms a new group at the most advanced map that is left, if need be the driver's; says after which round."""
        trouble = trouble[:1].upper() + trouble[1:]
        least = min(self._config.min_workers or 1, len(self._all))
        for _ in range(_ATTEMPTS):
            self._leave(self._members)
            if len(self._members) < least:
                self._members = assemble(self._all, least, self._config.start_s)
            if len(self._members) < least:
                refuse_strangers(self._all)
                raise WorkerLost(f"{trouble}, and {self._missing(least)}. --resume goes on from the last checkpoint.")
            answers = [(m, m.actor.progress.remote()) for m in self._members]
            rounds = answered(answers, self._collective_s)
            self._members = sorted(rounds, key=lambda m: (-rounds[m], m.number))
            if not rounds:
                continue
            best = self._members[0]
            behind, source = self._members[1:], None
            if rounds[best] < self._last.state.round:
                behind, source = list(self._members), ray.put(self._last)
            self._install(behind, source or best.actor.snapshot.remote())
            if self._form():
                at, workers = max(rounds[best], self._last.state.round), f"{len(self._members)} of {len(self._all)}"
                self._say(f"{trouble}. Going on after round {at} with {workers} workers.")
                return at
        raise WorkerLost(f"{trouble}, and no new group could be formed.")

    def _missing(self, least: int) -> str:
        """That too few workers are there, and whether waiting was of no use, in words."""
        gone, workers = sum(bool(m.gone) for m in self._all), len(self._all)
        if gone > workers - least:
            restarts = f"cluster.restarts={self._config.restarts}"
            return f"Ray does not start {gone} of {workers} workers again ({restarts}); {least} must be there"
        here, seconds = len(self._members), self._config.start_s
        return f"{here} of {workers} workers were there after {seconds:g} s; {least} must be"

    def _leave(self, members: Iterable[Member]) -> list[Member]:
        """Frees members from their collective; returns those who hang."""
        return self._ask(members, "leave")

    def _ask(self, members: Iterable[Member], question: str) -> list[Member]:
        """Calls members on their control threads, which nothing keeps busy; who is silent hangs, and is ended."""
        answers = [(m, getattr(m.actor, question).options(concurrency_group="control").remote()) for m in members]
        present = answered(answers, _ANSWER_S)
        hung = []
        for member, reference in [pair for pair in answers if pair[0] not in present]:
            if not ray.wait([reference], timeout=0)[0]:
                ray.kill(member.actor, no_restart=False)
                hung.append(member)
            self._lose(member)
        return hung

    def _admit(self) -> None:
        """Between two blocks all maps are equal: whoever is back takes a copy and joins."""
        back = [m for m in self._all if m not in self._members and m.answers()]
        for member in self._all:
            if member.stranger:
                self._say(f"Worker {member.number} is left out. {member.stranger}")
                member.stranger = ""
        if not back:
            return
        self._leave(self._members)
        self._members = sorted([*self._members, *back], key=lambda m: m.number)
        self._install(back, ray.put(self._last))
        how = f"{named(back)} restarted" if all(m.served for m in back) else f"{named(back)} added"
        if self._form():
            self._say(f"{how}. Going on with {len(self._members)} of {len(self._all)} workers.")
        else:
            self._recover("a group with the returned could not be formed")

    def _install(self, members: Iterable[Member], source: Any) -> None:
        """Gives members the run and a map; who dies over it is taken out."""
        answers = [(m, m.actor.install.remote(self._plan, source)) for m in members]
        present = answered(answers, self._config.start_s)
        for member in [m for m, _ in answers if m not in present]:
            self._lose(member)

    def _form(self) -> bool:
        """Forms the group of the current members; False if one of them could not join."""
        self._generation += 1
        members, config = list(self._members), self._config
        if not members:
            return False
        first = members[0]
        if len(members) == 1:
            answers = [(first, first.actor.alone.remote(self._generation))]
        else:
            listening = answered([(first, first.actor.listen.remote(self._driver, config.join_s))], _ANSWER_S)
            if not listening:
                self._lose(first)
                return False
            call = (self._generation, listening[first])
            seconds = (config.join_s, self._collective_s)
            answers = [(m, m.actor.join.remote(*call, rank, len(members), *seconds)) for rank, m in enumerate(members)]
        joined = answered(answers, config.join_s + _ANSWER_S)
        for member in [m for m in members if m not in joined]:
            self._lose(member)
        for member in joined:
            member.served = True
        return len(joined) == len(members) and all(joined.values())
