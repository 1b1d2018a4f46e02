"""What is asked again, and what is taken for an answer."""

import pytest

from rsdl.commands.sweep import request_retry
from rsdl.commands.sweep.request_retry import retry_until_answered
from rsdl.core.errors import (
    ClusterError,
    ForbiddenClusterError,
    PeerError,
    RsdlError,
    UnreachableClusterError,
    UnreachableError,
)

AWAY = UnreachableClusterError("kubectl get", "the cluster does not answer")
REFUSED = ForbiddenClusterError("kubectl get", "you may not do this")


def ask(*answers: RsdlError | str) -> tuple[str, list[str]]:
    """Return the answer that was taken, and what was said before."""
    said: list[str] = []
    left = list(answers)

    def look() -> str:
        answer = left.pop(0)
        if isinstance(answer, RsdlError):
            raise answer
        return answer

    return retry_until_answered(look, 0, said.append), said


def test_what_may_pass_is_asked_again():
    bucket = UnreachableError("s3://b", "does not answer")
    crash = PeerError("x", "crashed")
    found, said = ask(AWAY, bucket, crash, AWAY, "here")
    assert found == "here" and said == [f"{e}; trying again" for e in (AWAY, bucket, crash, AWAY)]


def test_a_refusal_right_after_an_outage_is_not_believed():
    assert ask(AWAY, REFUSED, REFUSED, "here") == (
        "here", [f"{e}; trying again" for e in (AWAY, REFUSED, REFUSED)],
    )  # fmt: skip


def test_a_refusal_that_stays_is_one(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ForbiddenClusterError):
        ask(REFUSED, "here")
    monkeypatch.setattr(request_retry, "SETTLE_S", -1.0)
    with pytest.raises(ForbiddenClusterError):
        ask(AWAY, REFUSED, "here")


def test_what_is_wrong_is_not_asked_again():
    with pytest.raises(ClusterError, match="no cluster"):
        ask(AWAY, ClusterError("kubectl", "no cluster is configured"), "here")
