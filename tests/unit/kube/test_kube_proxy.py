"""NO_PROXY by the rules of Go, which kubectl follows."""

import pytest

from awsbatch_operator.kube.proxy import ProxyError, checked, from_environment

PROXY = {"HTTPS_PROXY": "http://proxy:3128", "HTTP_PROXY": "http://plain:3128"}


@pytest.mark.parametrize(
    ("rule", "passed", "proxied"),
    [
        ("*.internal", ["k.internal", "a.b.internal", "K.Internal"], ["internal", "kinternal", "k.internal.com"]),
        (".internal", ["k.internal"], ["internal", "kinternal"]),
        ("internal", ["internal", "k.internal"], ["kinternal"]),
        (" a.example , k.internal ", ["k.internal", "a.example"], ["b.example"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "k.internal"]),
        ("10.1.2.3", ["10.1.2.3"], ["10.1.2.4"]),
        ("fd00::/8", ["[fd00::1]"], ["[fe00::1]", "10.1.2.3"]),
        ("[fd00::1]", ["[fd00::1]"], ["[fd00::2]"]),
        ("k.internal:6443", ["k.internal:6443"], ["k.internal", "k.internal:8443"]),
        ("k.internal:443", ["k.internal"], ["k.internal:6443"]),
        ("10.1.2.3:6443", ["10.1.2.3:6443"], ["10.1.2.3"]),
        ("*", ["k.internal", "10.1.2.3"], []),
        ("", ["localhost", "127.0.0.1", "127.8.0.1:6443", "[::1]"], ["k.internal"]),
        (",*., :80", [], ["k.internal"]),
    ],
)
def test_no_proxy(rule: str, passed: list[str], proxied: list[str]) -> None:
    for host in passed:
        assert from_environment(f"https://{host}", PROXY | {"NO_PROXY": rule}) is None, host
    for host in proxied:
        assert from_environment(f"https://{host}", PROXY | {"no_proxy": rule}) == "http://proxy:3128", host


def test_the_scheme_of_the_server_chooses_the_variable() -> None:
    assert from_environment("http://k.internal", PROXY) == "http://plain:3128"
    assert (
        from_environment("https://k.internal", {"https_proxy": "proxy:3128", "ALL_PROXY": "x"}) == "http://proxy:3128"
    )
    assert from_environment("https://k.internal", {"HTTPS_PROXY": "", "ALL_PROXY": "http://x"}) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("socks5://me:pw@proxy:1080", "socks5:// is not supported: use http://HOST:PORT or https://HOST:PORT"),
        ("http://:3128", "is not the URL of a proxy"),
        ("http://proxy:port", "is not the URL of a proxy"),
        ("//proxy", "is not the URL of a proxy"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_an_error_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(ProxyError) as raised:
        checked(url)
    assert str(raised.value).startswith(problem)
    assert "pw" not in str(raised.value)
