"""deploy/iam beside its documents: the association, what is refused before AWS sees it, the commands of the pages."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from deploy.iam_forms import HUB_POLICY, IAM, SPOKES, TAG, TEMPLATE, TRUSTS, WISHES, Wish, module, stack
from deploy.page_commands import programs, steps
from deploy.places import ROOT


def test_the_association_binds_the_same_service_account() -> None:
    wish = WISHES["another ServiceAccount"]
    properties = stack(wish).properties("Association")
    assert properties == {
        "ClusterName": "my-cluster",
        "Namespace": "batch",
        "ServiceAccount": "ender",
        "RoleArn": "<Role.Arn>",
        "DisableSessionTags": False,
    }
    one = module(wish)
    association = one.resource("aws_eks_pod_identity_association")
    found = [one.value(association, name) for name in ("count", "cluster_name", "namespace", "service_account")]
    assert found == [1, "my-cluster", "batch", "ender"]
    assert one.value(association, "disable_session_tags") is False


def test_the_association_of_a_role_that_assumes_roles_sends_no_session_tags() -> None:
    wish = WISHES["hub"]
    assert stack(wish).properties("Association")["DisableSessionTags"] is True
    one = module(wish)
    assert one.value(one.resource("aws_eks_pod_identity_association"), "disable_session_tags") is True


def test_there_is_no_association_with_irsa_or_when_it_is_not_wanted() -> None:
    assert stack(WISHES["IRSA"]).properties("Association") is None
    for one in (module(WISHES["IRSA"]), module(Wish(), create_association=False)):
        assert one.value(one.resource("aws_eks_pod_identity_association"), "count") == 0


@pytest.mark.parametrize("wish", [Wish(cluster=""), Wish(trust="IRSA", oidc_provider="")], ids=["cluster", "provider"])
def test_the_inputs_that_the_trust_needs_are_required(wish: Wish) -> None:
    assert stack(Wish()).refusals() == module(Wish()).refusals("aws_iam_role") == []
    (words,) = stack(wish).refusals()
    assert words.startswith(f"Trust={wish.trust} needs ")
    lacking = {"cluster_arn": ""} if wish.trust == "PodIdentity" else {"oidc_provider": ""}
    (words,) = module(wish, **lacking).refusals("aws_iam_role")
    assert words.startswith(f"trust = {wish.trust} needs ")


@pytest.mark.parametrize(
    ("lacking", "printed"),
    [
        ({"regions": []}, "own_jobs = true needs regions."),
        ({"own_jobs": False}, "own_jobs = false needs spoke_role_arns or spoke_role_pattern."),
    ],
)
def test_a_role_without_permissions_is_not_created(lacking: dict[str, Any], printed: str) -> None:
    assert module(Wish(), **lacking).refusals("aws_iam_role") == [printed]
    assert module(WISHES["hub"], regions=[]).refusals("aws_iam_role") == []


CHECKED = {
    # parameter of the template: variable of the module, its pattern among the variable's, what both take
    "ClusterName": ("cluster_arn", 0, "arn:aws:eks:eu-west-1:111122223333:cluster/{}", ["my-cluster", "c_2"]),
    "OidcProvider": ("oidc_provider", 0, "{}", ["oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE", "id.example.com"]),
    "Namespace": ("namespace", 0, "{}", ["awsbatch-operator", "x"]),
    "ServiceAccount": ("service_account", 0, "{}", ["awsbatch-operator", "x.y"]),
    "Regions": ("regions", 0, "{}", ["eu-west-1", "us-gov-west-1", "ap-southeast-2"]),
    "JobTagKey": ("job_tag", 0, "{}", ["managed-by", "team/owner", "https://a"]),
    "JobTagValue": ("job_tag", 1, "{}", ["awsbatch-operator", "a b=c", "https://a"]),
    "SpokeRolePattern": ("spoke_role_pattern", 0, "{}", ["awsbatch/my-cluster/*", "batch-team-*"]),
    "SpokeRoleArns": ("spoke_role_arns", 0, "{}", [*SPOKES, "arn:aws-cn:iam::222233334444:role/teams/a"]),
}
WRONG = ("*", "a*", "/*", "**", "a/*/b", "a?", 'a"b', "a\\", "${x}", "a,b", "a\nb", "https://a")


@pytest.mark.parametrize("parameter", CHECKED)
def test_both_forms_reject_values_that_widen_or_break_a_document(parameter: str) -> None:
    variable, which, frame, taken = CHECKED[parameter]
    template = TEMPLATE["Parameters"][parameter]["AllowedPattern"]
    (declared,) = [one for one in module(Wish()).of("variable") if one.labels == [variable]]
    condition = declared.blocks[0].text("condition")
    pattern = re.findall(r'regex\("(.*?)"', condition)[which]
    for value in (*taken, *WRONG):
        accepted = value in taken
        assert bool(re.fullmatch(template, value)) is accepted, value
        # CloudFormation matches the whole value, Terraform's regex() searches; its $ is the end of the text.
        assert bool(re.search(pattern.replace("$", r"\Z"), frame.format(value))) is accepted, value


def test_the_module_brings_no_provider_and_nothing_that_costs() -> None:
    one = module(Wish())
    assert {block.kind for block in one.blocks} == {"terraform", "variable", "locals", "data", "resource", "output"}
    (terraform,) = one.of("terraform")
    assert "required_version" in terraform.attributes
    free = {"aws_iam_role", "aws_iam_role_policy", "aws_eks_pod_identity_association"}
    assert {block.labels[0] for block in one.of("resource")} == free
    assert {block["Type"] for block in TEMPLATE["Resources"].values()} == {
        "AWS::IAM::Role",
        "AWS::EKS::PodIdentityAssociation",
    }


PAGES = (IAM / "README.md", IAM / "spoke/README.md", ROOT / "docs/quickstart.md", ROOT / "docs/install.md")


def commands() -> Iterator[list[str]]:
    """The `aws` commands of the pages, each as its words."""
    for page in PAGES:
        for step in steps(page.read_text("utf-8")):
            yield from (words for words in programs(step.command) if words[0] == "aws")


def test_the_aws_commands_and_options_of_the_pages_exist() -> None:
    session = botocore.session.get_session()
    checked = 0
    for _, service, command, *options in commands():
        if (service, command) == ("cloudformation", "deploy"):
            continue  # the CLI's own, not an operation
        model = session.get_service_model(service)
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(operations[command]).input_shape
        assert shape is not None
        members = set(map(partial(xform_name, sep="-"), shape.members)) | {"query", "output"}
        given = {option.removeprefix("--") for option in options if option.startswith("--")}
        assert given <= members, f"{service} {command}: {given - members}"
        assert {xform_name(name, "-") for name in shape.required_members} <= given
        checked += 1
    assert checked >= 17


def test_the_readme_names_every_file_and_placeholder() -> None:
    text = (IAM / "README.md").read_text()
    for name in ("policy.json", "policy-tag-scoped.json", HUB_POLICY, *TRUSTS, "template.yaml", "terraform/", "spoke/"):
        assert name in text
    for placeholder in ("111122223333", "eu-west-1", "my-cluster", "EXAMPLED539D4633E53DE1B71EXAMPLE", *TAG):
        assert placeholder in text
