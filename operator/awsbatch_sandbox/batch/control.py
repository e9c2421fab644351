"""The control verbs over HTTP: POST /_sandbox/<verb> with a JSON object of its arguments; {"result": ...} back."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

PREFIX: Final = "/_sandbox"
VERBS: Final = (
    "seed",
    "seed_many",
    "job",
    "jobs",
    "accounts",
    "move",
    "forget",
    "hide",
    "expire_tokens",
    "advance",
    "fault",
    "clear_faults",
    "limit",
    "deny",
    "clear_denials",
    "calls",
    "counts",
    "clear_calls",
    "terminate_requests",
    "settings",
)
EVENTS_VERBS: Final = (
    "create_queue",
    "delete_queue",
    "purge_queue",
    "queues",
    "delivery",
    "disable_rule",
    "enable_rule",
    "send_message",
    "messages",
    "dead_letters",
)


def add_routes(router: web.UrlDispatcher, *simulators: tuple[object, Sequence[str]]) -> None:
    """Each simulator with its verbs, which are names of its methods."""
    verbs = {name: getattr(simulator, name) for simulator, names in simulators for name in names}

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def verb(request: web.Request) -> web.Response:
        return _run(verbs, request.match_info["verb"], await request.read())

    router.add_get(f"{PREFIX}/health", health)
    router.add_post(f"{PREFIX}/{{verb}}", verb)


def _run(verbs: Mapping[str, Callable[..., Any]], verb: str, raw: bytes) -> web.Response:
    """400 for a wrong argument, 404 for a job or verb that does not exist; {"error": ...} names the remedy."""
    if verb not in verbs:
        return _refusal(404, f"{verb!r} is not a control verb; use one of {', '.join(verbs)}")
    method = verbs[verb]
    try:
        arguments = json.loads(raw or b"{}")
        inspect.signature(method).bind(**arguments)
        result: Any = method(**arguments)
    except LookupError as unknown:
        return _refusal(404, str(unknown))
    except (TypeError, ValueError) as wrong:
        return _refusal(400, f"{verb}: {wrong}")
    return web.json_response({"result": result})


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
