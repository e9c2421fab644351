"""What IAM would answer to a request under the documents of deploy/iam."""

import pytest

from deploy.iam_decision import Request, allows
from deploy.iam_forms import FORMS, TAG, Wish

IN_EACH_FORM = pytest.mark.parametrize("form", FORMS)
HERE = "eu-west-1"
JOB = "arn:aws:batch:eu-west-1:111122223333:job/61e743ed-35e4-48da-b2de-5c8333821c84"
THERE = {"aws:RequestedRegion": HERE}
TAGGED = THERE | {"aws:ResourceTag/managed-by": "awsbatch-operator"}
DESCRIBE, LIST, TERMINATE = "batch:DescribeJobs", "batch:ListJobs", "batch:TerminateJob"
ANSWERS: dict[str, tuple[Request, bool, bool]] = {
    # what is requested, the answer of policy.json, that of policy-tag-scoped.json
    "poll": (Request(DESCRIBE, "*", THERE), True, True),
    "poll in another region": (Request(DESCRIBE, "*", {"aws:RequestedRegion": "us-east-1"}), False, False),
    "list": (Request(LIST, "*", THERE), True, True),
    "list in another region": (Request(LIST, "*", {"aws:RequestedRegion": "us-east-1"}), False, False),
    "end a job": (Request(TERMINATE, JOB, THERE), True, False),
    "end a tagged job": (Request(TERMINATE, JOB, TAGGED), True, True),
    "end a tagged array child": (Request(TERMINATE, f"{JOB}:3", TAGGED), True, True),
    "end a tagged node": (Request(TERMINATE, f"{JOB}#1", TAGGED), True, True),
    "end a child that lacks its parent's tag": (Request(TERMINATE, f"{JOB}:3", THERE), True, False),
    "the tag with another value": (
        Request(TERMINATE, JOB, THERE | {"aws:ResourceTag/managed-by": "AWSBatch-Operator"}),
        True,
        False,
    ),
    "another tag": (Request(TERMINATE, JOB, THERE | {"aws:ResourceTag/owner": "awsbatch-operator"}), True, False),
    "the tag on the operator's session, not on the job": (
        Request(TERMINATE, JOB, THERE | {"aws:PrincipalTag/managed-by": "awsbatch-operator"}),
        True,
        False,
    ),
    "the tag in the request, not on the job": (
        Request(TERMINATE, JOB, THERE | {"aws:RequestTag/managed-by": "awsbatch-operator"}),
        True,
        False,
    ),
    "end in another account": (Request(TERMINATE, JOB.replace("111122223333", "444455556666"), TAGGED), False, False),
    "end in another region": (
        Request(TERMINATE, JOB.replace(HERE, "us-east-1"), TAGGED | {"aws:RequestedRegion": "us-east-1"}),
        False,
        False,
    ),
    "end in another partition": (Request(TERMINATE, JOB.replace("arn:aws:", "arn:aws-cn:"), TAGGED), False, False),
    "end a service job": (Request(TERMINATE, JOB.replace("job/", "service-job/"), TAGGED), False, False),
    "end a queue": (Request(TERMINATE, JOB.replace("job/", "job-queue/"), TAGGED), False, False),
    "end service jobs": (Request("batch:TerminateServiceJob", JOB, TAGGED), False, False),
    "cancel": (Request("batch:CancelJob", JOB, TAGGED), False, False),
    "tag a job": (Request("batch:TagResource", JOB, TAGGED), False, False),
    "submit": (Request("batch:SubmitJob", JOB, TAGGED), False, False),
    "list service jobs": (Request("batch:ListServiceJobs", "*", TAGGED), False, False),
    "read logs": (Request("logs:GetLogEvents", "*", TAGGED), False, False),
    "take a role": (Request("sts:AssumeRole", "arn:aws:iam::111122223333:role/admin", TAGGED), False, False),
}


@IN_EACH_FORM
@pytest.mark.parametrize("requested", ANSWERS)
def test_iam_answers_as_intended(form: str, requested: str) -> None:
    request, plain, scoped = ANSWERS[requested]
    assert allows(FORMS[form](Wish()).policy, request) is plain
    assert allows(FORMS[form](Wish(tag=TAG)).policy, request) is scoped


PODS = ("Service", "pods.eks.amazonaws.com")
POD = {
    "aws:RequestTag/eks-cluster-arn": "arn:aws:eks:eu-west-1:111122223333:cluster/my-cluster",
    "aws:RequestTag/kubernetes-namespace": "awsbatch-operator",
    "aws:RequestTag/kubernetes-service-account": "awsbatch-operator",
}
ISSUER = Wish().oidc_provider
PROVIDER = ("Federated", f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}")
TOKEN = {
    f"{ISSUER}:aud": "sts.amazonaws.com",
    f"{ISSUER}:sub": "system:serviceaccount:awsbatch-operator:awsbatch-operator",
}
WEB = "sts:AssumeRoleWithWebIdentity"
TAKERS: dict[str, tuple[Request, tuple[bool, bool]]] = {
    # who asks, the answers of trust-irsa.json and trust-pod-identity.json
    "the pod": (Request("sts:AssumeRole", "*", POD, PODS), (False, True)),
    "the pod's session tags": (Request("sts:TagSession", "*", POD, PODS), (False, True)),
    "a pod of another cluster": (
        Request("sts:AssumeRole", "*", POD | {"aws:RequestTag/eks-cluster-arn": "arn:aws:eks:x"}, PODS),
        (False, False),
    ),
    "a pod of another namespace": (
        Request("sts:AssumeRole", "*", POD | {"aws:RequestTag/kubernetes-namespace": "team-a"}, PODS),
        (False, False),
    ),
    "another ServiceAccount": (
        Request("sts:AssumeRole", "*", POD | {"aws:RequestTag/kubernetes-service-account": "default"}, PODS),
        (False, False),
    ),
    "a pod without session tags": (Request("sts:AssumeRole", "*", {}, PODS), (False, False)),
    "another service": (Request("sts:AssumeRole", "*", POD, ("Service", "ec2.amazonaws.com")), (False, False)),
    "a person": (Request("sts:AssumeRole", "*", POD, ("AWS", "arn:aws:iam::111122223333:root")), (False, False)),
    "the token": (Request(WEB, "*", TOKEN, PROVIDER), (True, False)),
    "the token of another ServiceAccount": (
        Request(WEB, "*", TOKEN | {f"{ISSUER}:sub": "system:serviceaccount:awsbatch-operator:default"}, PROVIDER),
        (False, False),
    ),
    "a token for the API server": (
        Request(WEB, "*", TOKEN | {f"{ISSUER}:aud": "https://kubernetes.default.svc"}, PROVIDER),
        (False, False),
    ),
    "a token of another cluster": (Request(WEB, "*", TOKEN, (PROVIDER[0], PROVIDER[1] + "2")), (False, False)),
    "the token, to pass on tags": (Request("sts:TagSession", "*", TOKEN, PROVIDER), (False, False)),
}


@IN_EACH_FORM
@pytest.mark.parametrize("taker", TAKERS)
def test_one_service_account_may_assume_the_role(form: str, taker: str) -> None:
    request, answers = TAKERS[taker]
    found = tuple(allows(FORMS[form](Wish(trust=trust)).trust, request) for trust in ("IRSA", "PodIdentity"))
    assert found == answers
