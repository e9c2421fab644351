"""Answers in JSON, and in YAML for clients that ask for it."""

import json
from typing import Any, Final

import yaml
from aiohttp import web

JSON: Final = "application/json"
"""Without a charset, as kube-apiserver: lightkube recognises an error by exactly this header."""


def json_response(body: Any, status: int = 200) -> web.Response:
    """`body`: what `json.dumps` takes, or its bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": JSON, "Cache-Control": "no-cache, private"}
    return web.Response(body=raw, status=status, headers=headers)


def to_yaml(response: web.Response) -> None:
    """Change a JSON answer to YAML; leave others as they are."""
    if response.headers["Content-Type"] == JSON and isinstance(response.body, bytes):
        response.body = yaml.safe_dump(json.loads(response.body), allow_unicode=True).encode()
        response.headers["Content-Type"] = "application/yaml"
