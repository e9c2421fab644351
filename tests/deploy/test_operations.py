"""docs/operations.md quotes the operator as it speaks: whoever looks for these words in a log finds them."""

import ast

import pytest

from deploy.places import OPERATIONS, ROOT

QUOTED = (
    "Events will be lost, and nothing else",
    "can't listen on",
    "no AWS region for objects that name none",
    "status refused by the API server",
    "status writes wait for the API server",
    "status writes wait: Kubernetes forbids them",
    "the Lease can't be had",
    "the cluster knows no ",
    "the objects are not all known yet",
    "the objects can't be listed for",
    "wrong settings:",
)


@pytest.fixture(scope="module")
def said() -> set[str]:
    """All texts of the code; of those with values in them, what stands between the values."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "operator/awsbatch_operator").rglob("*.py")]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {text for text in texts if isinstance(text, str)}


@pytest.mark.parametrize("words", QUOTED)
def test_the_page_quotes_what_the_operator_says(words: str, said: set[str]) -> None:
    assert f"`{words}" in OPERATIONS.read_text("utf-8")
    assert any(words in text for text in said)
