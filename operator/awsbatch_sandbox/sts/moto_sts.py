"""moto's STS, in this process and without a socket: it gives out the credentials."""

from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

from awsbatch_sandbox.sts.query import Form, Reply

_URL: Final = "https://sts.amazonaws.com/"


class MotoSts:
    """Answers inside the `with` block. There moto stands between this process and AWS: `requests` and boto3 end at it.

    Imported when it is entered: that takes half a second, which only a world with roles needs to spend.
    """

    def __enter__(self) -> Self:
        import requests  # noqa: PLC0415
        from moto import mock_aws  # noqa: PLC0415

        self._moto = mock_aws(config={"core": {"mock_credentials": False}})
        self._moto.start()
        self._session = requests.Session()
        # The first call makes moto read its models.
        self({"Action": "GetCallerIdentity", "Version": "2011-06-15"})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()
        self._moto.stop()

    def __call__(self, form: Form) -> Reply:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self._session.post(_URL, urlencode(form), headers=headers, timeout=10)
        return Reply(answer.status_code, answer.content)
