"""Messages as kubectl 1.31 to 1.37 prints them."""

import pytest

from kubectl_awsbatch.kubectl import error_of

KLOG = 'E1130 15:26:10.398943   16804 memcache.go:381] "Couldn\'t get current server API group list" err="..."\n'


@pytest.mark.parametrize(
    ("kind", "code", "stderr"),
    [
        ("not found", 3, 'Error from server (NotFound): batchjobs.awsbatch.dev "x" not found'),
        ("forbidden", 77, 'Error from server (Forbidden): batchjobs.awsbatch.dev is forbidden: User "u" cannot list'),
        ("not logged in", 77, "error: You must be logged in to the server (Unauthorized)"),
        ("not logged in", 77, "Unable to connect to the server: getting credentials: exec: executable aws failed"),
        ("not installed", 69, 'error: the server doesn\'t have a resource type "batchjobs"'),
        ("not installed", 69, 'error: resource mapping not found for name: "x": no matches for kind "BatchJob"'),
        ("conflict", 1, 'Error from server (Conflict): Operation cannot be fulfilled on batchjobs.awsbatch.dev "x"'),
        ("exists", 1, 'Error from server (AlreadyExists): error when creating "STDIN": ... already exists'),
        ("invalid", 1, 'The BatchJob "x" is invalid: spec.jobId: Invalid value: "string"'),
        ("unreachable", 69, KLOG + "The connection to the server 127.0.0.1:1 was refused - did you specify the right"),
        ("unreachable", 69, "Unable to connect to the server: dial tcp: lookup k8s.example: no such host"),
        ("unreachable", 69, "Unable to connect to the server: net/http: TLS handshake timeout"),
        ("unreachable", 69, "Error from server (ServiceUnavailable): the server is currently unable to handle"),
        ("unreachable", 69, "Error from server (TooManyRequests): storage is (re)initializing"),
        (
            "unreachable",
            69,
            (
                'error: error validating "STDIN": error validating data: failed to download openapi: Get '
                '"https://127.0.0.1:9/openapi/v2?timeout=30s": dial tcp 127.0.0.1:9: connect: connection refused; if'
            ),
        ),
        ("no such context", 64, "error: stat /nowhere: no such file or directory"),
        ("no kubeconfig", 64, "error: current-context must exist in order to minify"),
        ("no kubeconfig", 64, KLOG + "The connection to the server localhost:8080 was refused - did you specify"),
        ("no such context", 64, "error: cannot locate context nope"),
        ("no such context", 64, 'error: error loading config file "/x": yaml: line 4'),
        ("too old", 69, "error: unknown flag: --output-watch-events\nSee 'kubectl get --help' for usage."),
    ],
)
def test_a_message_has_a_kind_a_code_and_if_possible_a_remedy(kind: str, code: int, stderr: str) -> None:
    error = error_of(stderr)
    assert (error.kind, error.exit_code) == (kind, code)
    assert "memcache.go" not in str(error)
    assert bool(error.remedy) == (kind not in ("not found", "conflict", "exists", "invalid"))


def test_the_message_of_an_admission_policy_is_its_own_remedy() -> None:
    error = error_of(
        "Error from server (Forbidden): x is forbidden: ValidatingAdmissionPolicy 'p' denied request: ask y"
    )
    assert (error.kind, error.remedy, error.exit_code) == ("denied", "", 1)


def test_a_wrong_label_selector_is_told_once() -> None:
    one = 'Unable to find "awsbatch.dev/v1alpha1, Resource={}" that match label selector "a in", field selector "": '
    why = "unable to parse requirement: found '' expected: '('"
    lines = [f"Error from server (BadRequest): {one.format(kind)}{why}" for kind in ("batchjobs", "batchterminations")]
    error = error_of("\n".join(lines))
    assert str(error) == f'"a in" is not a label selector: {why}. Write -l as run=42 or run=42,team!=a.'
    assert error.exit_code == 64


def test_without_a_current_context_it_is_told_where_none_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, named in (("/nonexistent", " (KUBECONFIG is /nonexistent)"), ("", "")):
        monkeypatch.setenv("KUBECONFIG", variable)
        error = error_of("error: current-context must exist in order to minify")
        assert error.message == f"no cluster is selected: the kubeconfig is missing or has no current context{named}"


def test_messages_are_cleaned_and_never_empty() -> None:
    assert str(error_of("error: \x1b[31mbad\n")) == "\\x1b[31mbad."
    assert str(error_of("")) == "kubectl failed without a message."
    assert "memcache.go" in str(error_of(KLOG))
