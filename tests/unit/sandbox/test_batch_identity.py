"""The one question to STS that the Batch endpoint answers."""

from collections.abc import Mapping
from urllib.parse import urlencode

import aiohttp
import pytest

from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.signature import SignedRequest, sign
from awsbatch_sandbox.batch.simulator import BatchSimulator

WHO = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}


async def ask(simulator: BatchSimulator, form: Mapping[str, str], **signer: str) -> tuple[int, str]:
    body = urlencode(form).encode()
    async with serve(simulator) as url, aiohttp.ClientSession() as session:
        headers = {"host": url.removeprefix("http://"), "content-type": "application/x-www-form-urlencoded"}
        request = SignedRequest("POST", "/", headers, body)
        keys = {"service": "sts", "access_key": "sandbox", "secret": "sandbox"} | signer
        signed = sign(request, at=simulator.aws_time(), region="eu-west-1", **keys)
        async with session.post(url, data=body, headers=signed) as answer:
            return answer.status, await answer.text()


async def test_a_signed_call_returns_the_account_of_the_caller() -> None:
    simulator = BatchSimulator(accounts={"AKIAOTHER": "222222222222"})
    status, text = await ask(simulator, WHO, access_key="AKIAOTHER")
    assert (status, "<Account>222222222222</Account>" in text) == (200, True)


@pytest.mark.parametrize(
    ("signer", "code"),
    [
        ({"secret": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key": "ASIASTRAY"}, "InvalidClientTokenId"),
        ({"service": "batch"}, "SignatureDoesNotMatch"),
    ],
)
async def test_a_wrong_signature_is_reported(signer: dict[str, str], code: str) -> None:
    status, text = await ask(BatchSimulator(), WHO, **signer)
    assert (status, f"<Code>{code}</Code>" in text) == (403, True)


async def test_it_assumes_no_roles() -> None:
    status, text = await ask(BatchSimulator(), {"Action": "AssumeRole"})
    assert (status, "<Code>InvalidAction</Code>" in text) == (400, True)
