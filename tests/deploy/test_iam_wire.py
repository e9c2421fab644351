"""The spoke's documents and the operator's parameters before AWS's own SDK, STS and Batch, as the sandbox plays them.

Beyond the model of IAM's decisions: what STS says to a call of these parameters, what a bulk call answers for each job,
and what hub credentials bring along.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from awsbatch_operator.policy.role_session import Session, for_describe, for_terminate
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator
from awsbatch_sandbox.sts.server import serve as serve_sts
from awsbatch_sandbox.sts.simulator import StsSimulator
from deploy.iam_forms import IAM

ACCOUNT: Final = "222233334444"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/batch-team-a"
HUB_ROLE: Final = "arn:aws:iam::111122223333:role/awsbatch-operator"
REGION: Final = "eu-west-1"
POLLS: Final = for_describe(ROLE, "my-cluster", "team-a")
ENDING: Final = for_terminate(ROLE, "my-cluster", "team-a", "team-a-dev")
NAMESPACE_TAG: Final = "k8s-namespace"
KEYS: Final = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
OF_POD_IDENTITY: Final = {"eks-cluster-name": "my-cluster", "kubernetes-namespace": "awsbatch-operator"}


class Aws:
    """The spoke account, with the conditions of its documents set as the sandbox knows them."""

    def __init__(self, batch: BatchSimulator, sts: StsSimulator, urls: Mapping[str, str]) -> None:
        self.batch, self.sts, self._urls = batch, sts, urls
        trust, policy = (json.loads((IAM / "spoke" / name).read_text()) for name in ("trust.json", "policy.json"))
        sts.trust(ROLE, external_id=trust["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"])
        (condition,) = [one["Condition"] for one in policy["Statement"] if one["Action"] == "batch:TerminateJob"]
        (job_tag, variable) = next(pair for pair in condition["StringEquals"].items() if "ResourceTag" in pair[0])
        batch.deny(
            "TerminateJob",
            role=ROLE,
            job_tag=job_tag.removeprefix("aws:ResourceTag/"),
            principal_tag=variable.removeprefix("${aws:PrincipalTag/").removesuffix("}"),
        )

    async def assume(self, session: Session, keys: Mapping[str, str] = KEYS, **more: Any) -> dict[str, str]:
        parameters = {"RoleArn": session.role, "RoleSessionName": session.name, "ExternalId": session.external_id}
        tags = [{"Key": key, "Value": value} for key, value in session.tags]
        answer = await self.call("sts", "assume_role", keys, **(parameters | {"Tags": tags} | more))
        names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey"}
        names["aws_session_token"] = "SessionToken"
        return {name: answer["Credentials"][theirs] for name, theirs in names.items()}

    async def call(self, service: str, operation: str, keys: Mapping[str, str], **parameters: Any) -> Any:
        def call() -> Any:
            client = boto3.session.Session(**keys).client(  # type: ignore[call-overload,arg-type]
                service,
                region_name=REGION,
                endpoint_url=self._urls[service],
                config=Config(retries={"total_max_attempts": 1}),
            )
            try:
                return getattr(client, operation)(**parameters)
            finally:
                client.close()

        return await asyncio.to_thread(call)


@asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[Aws]:
    batch = BatchSimulator(**settings)
    sts = StsSimulator(batch.credentials, batch.aws_time)
    async with serve(batch) as batch_url, serve_sts(sts) as sts_url:
        yield Aws(batch, sts, {"batch": batch_url, "sts": sts_url})


async def test_the_operators_requests_are_accepted_and_its_sessions_are_distinct() -> None:
    async with world() as aws:
        polls, ends = await aws.assume(POLLS), await aws.assume(ENDING)
        mine = aws.batch.seed(account=ACCOUNT, tags={NAMESPACE_TAG: "team-a-dev"})
        assert len((await aws.call("batch", "describe_jobs", polls, jobs=[mine]))["jobs"]) == 1
        with pytest.raises(ClientError, match="not authorized to perform: batch:TerminateJob"):
            await aws.call("batch", "terminate_job", polls, jobId=mine, reason="by the session of polls")
        await aws.call("batch", "terminate_job", ends, jobId=mine, reason="INC-4711")
        assert [one["role_session"] for one in aws.batch.terminate_requests(account=ACCOUNT)] == [ENDING.name]


async def test_a_bulk_call_is_authorised_job_by_job() -> None:
    async with world() as aws:
        tags: tuple[dict[str, str], ...] = (
            {NAMESPACE_TAG: "team-a-dev"},
            {NAMESPACE_TAG: "team-b"},
            {},
            {NAMESPACE_TAG: "team-a-dev"},
        )
        jobs = [aws.batch.seed(account=ACCOUNT, tags=one) for one in tags]
        answer = await aws.call("batch", "terminate_jobs", await aws.assume(ENDING), jobs=jobs, reason="r")
        assert sorted(answer["successful"]) == sorted([jobs[0], jobs[3]])
        assert {(one["job"], one["code"]) for one in answer["errors"]} == {
            (jobs[1], "AccessDenied"),
            (jobs[2], "AccessDenied"),
        }


@pytest.mark.parametrize("carry", [False, True])
async def test_a_child_is_terminated_if_iam_uses_its_parents_tag_and_the_parent_always(*, carry: bool) -> None:
    async with world(children_carry_tags=carry) as aws:
        parent = aws.batch.seed(account=ACCOUNT, tags={NAMESPACE_TAG: "team-a-dev"}, array_size=2)
        ends = await aws.assume(ENDING)
        child = aws.call("batch", "terminate_job", ends, jobId=f"{parent}:1", reason="r")
        if carry:
            await child
        else:
            with pytest.raises(ClientError, match="AccessDenied"):
                await child
        await aws.call("batch", "terminate_job", ends, jobId=parent, reason="r")


@pytest.mark.parametrize(
    "session",
    [for_describe(ROLE, "my-cluster", "team-b"), for_describe(ROLE, "another-cluster", "team-a")],
    ids=["another policy", "another cluster"],
)
async def test_another_external_id_is_rejected(session: Session) -> None:
    async with world() as aws:
        with pytest.raises(ClientError, match=f"not authorized to perform: sts:AssumeRole on resource: {ROLE}"):
            await aws.assume(session)


async def test_hub_credentials_with_a_transitive_namespace_tag_can_describe_and_not_terminate() -> None:
    # As EKS Pod Identity's do, unless its session tags are off: they are transitive.
    async with world() as aws:
        hub = Session(HUB_ROLE, "xx", "eks-my-cluster", tuple(OF_POD_IDENTITY.items()))
        keys = await aws.assume(hub, TransitiveTagKeys=list(OF_POD_IDENTITY))
        await aws.assume(POLLS, keys)
        with pytest.raises(ClientError, match="conflicts with a transitive tag key from the calling session") as caught:
            await aws.assume(ENDING, keys)
        assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
        without = await aws.assume(Session(HUB_ROLE, "xx", "eks-my-cluster", ()))
        await aws.assume(ENDING, without)


async def test_a_chained_session_is_valid_for_one_hour_only() -> None:
    async with world() as aws:
        hub = await aws.assume(Session(HUB_ROLE, "xx", "eks-my-cluster", ()))
        await aws.assume(POLLS, hub, DurationSeconds=3600)
        with pytest.raises(ClientError, match="1 hour session limit for roles assumed by role chaining"):
            await aws.assume(POLLS, hub, DurationSeconds=3601)
