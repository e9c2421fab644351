"""What stands in for moto behind the simulated STS, where starting it would take longer than the test."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from awsbatch_sandbox.batch.identity import NAMESPACE
from awsbatch_sandbox.sts.query import Form, Reply


@dataclass
class FakeMoto:
    """Gives out numbered credentials (ASIA1, secret-1, token-1, ...) that live as long as was asked for."""

    clock: Callable[[], float] = time.time
    asked: list[Form] = field(default_factory=list)

    def __call__(self, form: Form) -> Reply:
        self.asked.append(form)
        number = len(self.asked)
        ends = dt.datetime.fromtimestamp(self.clock() + int(form["DurationSeconds"]), dt.UTC)
        given = {
            "AccessKeyId": f"ASIA{number}",
            "SecretAccessKey": f"secret-{number}",
            "SessionToken": f"token-{number}",
        }
        credentials = _elements(given | {"Expiration": ends.isoformat()})
        result = f"<AssumeRoleResult><Credentials>{credentials}</Credentials></AssumeRoleResult>"
        return Reply(200, f'<AssumeRoleResponse xmlns="{NAMESPACE}">{result}</AssumeRoleResponse>'.encode())


def _elements(values: dict[str, str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
