"""Calls to a simulated STS without a socket."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from awsbatch_sandbox.batch.signature import SignedRequest, sign
from awsbatch_sandbox.batch.simulator import BatchSimulator
from awsbatch_sandbox.sts.query import Form
from awsbatch_sandbox.sts.simulator import StsSimulator
from unit.sandbox.batch_wire_calls import START, frozen

ROLE = "arn:aws:iam::222222222222:role/teams/batch-team-a"


@dataclass
class Sts:
    """A simulated STS beside a simulated Batch, and one who calls it."""

    batch: BatchSimulator = field(default_factory=frozen)

    def __post_init__(self) -> None:
        self.simulator = StsSimulator(self.batch.credentials, self.batch.aws_time)

    def assume(self, parameters: Form | None = None, *, by: int | None = None) -> tuple[int, str | None, str]:
        """Status, error code and body; `by` whose credentials: those that were given out under that number, or None."""
        return self.call("AssumeRole", {"RoleArn": ROLE, "RoleSessionName": "operator", **(parameters or {})}, by=by)

    def call(
        self, action: str, parameters: Form | None = None, *, by: int | None = None
    ) -> tuple[int, str | None, str]:
        form = {"Action": action, "Version": "2011-06-15", **(parameters or {})}
        reply = self.simulator.answer(self.request(form, by))
        return reply.status, reply.error, reply.body.decode()

    def request(self, form: Form, by: int | None = None, *, secret: str = "", at: float = START) -> SignedRequest:
        body = urlencode(form).encode()
        headers = {"host": "sts.test"} | ({} if by is None else {"x-amz-security-token": f"token-{by}"})
        key, known = ("sandbox", "sandbox") if by is None else (f"ASIA{by}", f"secret-{by}")
        unsigned = SignedRequest("POST", "/", headers, body)
        signed = sign(unsigned, at=at, region="eu-west-1", service="sts", access_key=key, secret=secret or known)
        return SignedRequest("POST", "/", signed, body)


def tags(pairs: Mapping[str, str]) -> dict[str, str]:
    """Number list items as the query protocol does."""
    form: dict[str, str] = {}
    for number, (key, value) in enumerate(pairs.items(), 1):
        form |= {f"Tags.member.{number}.Key": key, f"Tags.member.{number}.Value": value}
    return form
