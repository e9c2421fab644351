"""The issue forms follow GitHub's rules; GitHub ignores a form that does not, without an error."""

from pathlib import Path

import pytest
import yaml

from deploy.places import ROOT

FOLDER = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = sorted(set(FOLDER.glob("*.yml")) - {FOLDER / "config.yml"})


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_github_requires(path: Path) -> None:
    form = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    assert {"name", "description", "body"} <= form.keys() <= {"name", "description", "body", "labels"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    assert (
        len({field["id"] for field in fields}) == len({field["attributes"]["label"] for field in fields}) == len(fields)
    )
    for field in form["body"]:
        allowed = {"markdown": {"value"}, "input": {"label", "description", "placeholder"}}
        allowed["textarea"] = allowed["input"] | {"render"}
        assert field["attributes"].keys() <= allowed[field["type"]]


def test_reports_of_vulnerabilities_are_sent_elsewhere() -> None:
    config = yaml.load((FOLDER / "config.yml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    assert config["blank_issues_enabled"] is False
    assert config["contact_links"][0]["url"].endswith("/SECURITY.md")
    assert all(link.keys() == {"name", "url", "about"} for link in config["contact_links"])
