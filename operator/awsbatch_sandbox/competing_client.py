"""Another program that calls AWS Batch in the same account and region, regardless of other callers."""

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from awsbatch_sandbox.batch.signature import SignedRequest, sign
from awsbatch_sandbox.operator_process import REGION, sandbox_aws

ITS_JOB: Final = "00000000-0000-4000-8000-00000000feed"
"""The job that it describes, and no other client does: its calls can be identified in the record."""
_PATH: Final = "/v1/describejobs"
_BODY: Final = json.dumps({"jobs": [ITS_JOB]}).encode()


class CompetingClient:
    """Makes `at_once` DescribeJobs `rate / at_once` times a second, plus or minus 10 %, inside the `with` block.

    Raises OSError at the end of the block if Batch became unreachable.
    """

    def __init__(self, batch_url: str, *, rate: float, at_once: int = 1, region: str = REGION) -> None:
        self._address = urlsplit(batch_url).netloc
        aws = sandbox_aws(batch_url)
        self._key, self._secret, self._region = aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"], region
        self._at_once, self._every = at_once, at_once / rate
        self._chance = random.Random(7)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._live, name="competing client")
        self._failed: OSError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed

    def _live(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            while not self._left.wait(self._every * self._chance.uniform(0.9, 1.1)):
                for _ in range(self._at_once):
                    connection.request("POST", _PATH, _BODY, self._headers())
                    connection.getresponse().read()
        except OSError as error:
            self._failed = error
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        request = SignedRequest("POST", _PATH, {"host": self._address}, _BODY)
        return sign(request, at=time.time(), region=self._region, access_key=self._key, secret=self._secret)


def is_competing(call: Mapping[str, Any]) -> bool:
    """Whether a call of the simulator's record was made by the competing client."""
    return bool(call["job_ids"] == [ITS_JOB])
