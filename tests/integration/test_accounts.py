"""Two accounts that know the same job id, and an operator that came by a role into one of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from awsbatch_sandbox.cluster import Cluster
from awsbatch_sandbox.operator_process import OperatorProcess
from awsbatch_sandbox.world import QUICK, World
from integration.scenario import SOON, phase

OURS, THEIRS = "123456789012", "222222222222"
ROLE = f"arn:aws:iam::{THEIRS}:role/batch-team-a"
EXTERNAL_ID = "awsbatch-operator/prod/team-a"
PROFILE = f"""\
[profile hub]
aws_access_key_id = sandbox
aws_secret_access_key = sandbox
[profile team-a]
source_profile = hub
role_arn = {ROLE}
role_session_name = team-a
external_id = {EXTERNAL_ID}
"""


@pytest.fixture
def roles(world: World) -> Iterator[World]:
    """A second Batch with STS beside it, on the control plane that is there, which no other operator watches."""
    if world.operator.running:
        world.operator.stop()
    with World(world.control_plane, grace=0.2, roles=True) as roles:
        yield roles


@pytest.fixture
def by_role(roles: World, cluster: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator whose AWS profile is a role."""
    profile = tmp_path / "aws"
    profile.write_text(PROFILE, "utf-8")
    environment = {name: value for name, value in roles.environment.items() if "ACCESS_KEY" not in name}
    environment |= {"AWS_PROFILE": "team-a", "AWS_CONFIG_FILE": str(profile)}
    operator = OperatorProcess(environment, tmp_path, (*QUICK, f"--namespace={cluster.namespace}"))
    operator.start()
    yield operator
    if operator.running:
        operator.stop()


def test_a_termination_reaches_the_job_of_the_roles_account_and_no_other(
    roles: World, cluster: Cluster, by_role: OperatorProcess
) -> None:
    for account in (OURS, THEIRS):
        roles.batch.seed(job_id="same", name=f"of-{account}", account=account)
    cluster.create("one", "same", terminate={"reason": "INC-4711"})
    status = cluster.wait_for("one", phase("Terminated"), timeout=SOON)["status"]
    assert status["jobArn"] == f"arn:aws:batch:eu-west-1:{THEIRS}:job/same"
    assert roles.batch.job("same", account=OURS)["is_terminated"] is False
    (request,) = roles.batch.terminate_requests()
    assert (request["account"], request["role"], request["role_session"]) == (THEIRS, ROLE, "team-a")
    assert {call["account"] for call in roles.batch.calls()} == {THEIRS}
    assert {call["external_id"] for call in roles.sts.calls("AssumeRole")} == {EXTERNAL_ID}
