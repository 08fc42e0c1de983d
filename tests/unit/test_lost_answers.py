"""Answers that went with the node that held them: a lost worker, not the end of a run."""

from types import SimpleNamespace

import ray

from pipeline.training import members


def test_an_answer_lost_with_its_node_is_that_of_a_lost_worker(monkeypatch):
    """With real errors of Ray; a node that dies in that very moment cannot be made to order."""
    kept, lost, dead = object(), object(), object()
    errors = {
        lost: ray.exceptions.ObjectLostError("00" * 28, "", "call"),
        dead: ray.exceptions.RayActorError(),
    }

    def get(reference):
        if reference in errors:
            raise errors[reference]
        return "an answer"

    here = SimpleNamespace(wait=lambda refs, **_: (refs, []), get=get, exceptions=ray.exceptions)
    monkeypatch.setattr(members, "ray", here)
    assert members.answered([(1, kept), (2, lost), (3, dead)], 0.0) == {1: "an answer"}
