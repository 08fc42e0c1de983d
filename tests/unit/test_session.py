"""What a user reads when Ray cannot be had, and which cluster is surely another than the connected one."""

import socket

import pytest

from jobs._exit import USER, exit_code
from pipeline.cluster import session
from pipeline.cluster.session import _connect, names_another
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


def test_a_node_that_finds_no_room_for_its_session_says_where(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(session, "_SESSION_BYTES", 2**62)
    with pytest.raises(UserError, match=f"temporary folder '{tmp_path}' is full: [0-9]+ MB are free.*RAY_TMPDIR"):
        _connect(Ray, None)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    with pytest.raises(UserError, match="timed out.*less busy"):
        _connect(Ray, None)


@pytest.mark.parametrize(
    ("address", "another"),
    [
        ("192.0.2.2:6379", False),
        ("192.0.2.2:6391", True),
        ("192.0.2.3:6379", True),
        ("127.0.0.1:6379", False),  # this machine, perhaps that of the head
        ("localhost:6379", False),
        ("localhost:6380", True),
        ("no such name:6379", False),
        ("auto", False),
        ("local", False),
        ("ray://192.0.2.2:10001", False),
    ],
)
def test_only_what_is_surely_another_cluster_is_taken_for_one(address, another):
    assert names_another(address, "192.0.2.2:6379") == another


def test_the_address_of_a_dashboard_is_none_of_a_cluster():
    import ray

    with socket.create_server(("127.0.0.1", 0)) as dashboard:
        address = f"http://127.0.0.1:{dashboard.getsockname()[1]}"
        with pytest.raises(UserError, match=f"cluster.address must be the address of a running.* Got '{address}'"):
            _connect(ray, address)
