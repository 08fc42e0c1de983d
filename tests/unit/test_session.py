"""What a user reads when Ray cannot be had."""

import pytest

from jobs._exit import USER, exit_code
from pipeline.cluster.session import _connect
from pipeline.errors import UserError


class Ray:
    """As Ray is when its own node does not start in time: the error is of no particular kind."""

    @staticmethod
    def init(**options):
        raise Exception("The current node timed out during startup.\nThis could happen because")


def test_a_node_that_does_not_start_is_one_line_that_says_what_to_do(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="Ray must start on this machine") as error:
        _connect(Ray, None)
    assert exit_code(error.value) == USER
    assert "\n" not in str(error.value) and "timed out" in str(error.value) and "--workers 0" in str(error.value)
