"""The control verbs for a program in another process: synchronous, standard library only."""

import http.client
import json
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

JSON = dict[str, Any]


class Remote:
    """Drives a served simulator at `url`.

    One kept-alive connection, hence not for several threads at once. OSError when nothing answers.
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"url must have the form http://127.0.0.1:8080, got {url!r}")
        self.url = url.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def health(self) -> bool:
        """Whether the simulator answers."""
        try:
            status, _ = self._exchange("GET", "/_sandbox/health", b"")
        except OSError:
            return False
        return status == 200

    def _do(self, verb: str, arguments: JSON) -> Any:
        status, raw = self._exchange("POST", f"/_sandbox/{verb}", json.dumps(arguments).encode())
        answer = json.loads(raw)
        if status == 404:
            raise LookupError(answer["error"])
        if status != 200:
            raise ValueError(answer["error"])
        return answer["result"]

    def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """A kept-alive connection may have been closed while it was idle: then once more on a new one."""
        headers = {"Content-Type": "application/json"}
        for last in (False, True):
            try:
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (
                http.client.RemoteDisconnected,
                ConnectionResetError,
                BrokenPipeError,
                http.client.CannotSendRequest,
            ):
                self._connection.close()
                if last:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")


class RemoteBatch(Remote):
    """The verbs are those of BatchSimulator and of its `events`, with the same errors.

    `scope`: `account` and `region`, both or one of them, to select a job or a call.
    """

    def seed(self, **job: Any) -> str:
        return cast("str", self._do("seed", job))

    def seed_many(self, n: int, **job: Any) -> list[str]:
        return cast("list[str]", self._do("seed_many", {"n": n, **job}))

    def job(self, job_id: str, **scope: str | None) -> JSON:
        return cast("JSON", self._do("job", {"job_id": job_id, **scope}))

    def jobs(self, **scope: str | None) -> list[JSON]:
        return cast("list[JSON]", self._do("jobs", scope))

    def accounts(self) -> list[str]:
        return cast("list[str]", self._do("accounts", {}))

    def move(self, job_id: str, status: str, **fields: Any) -> None:
        self._do("move", {"job_id": job_id, "status": status, **fields})

    def forget(self, job_id: str, **scope: str | None) -> None:
        self._do("forget", {"job_id": job_id, **scope})

    def hide(self, job_id: str, polls: int = 1, *, lists: int = 0, **scope: str | None) -> None:
        self._do("hide", {"job_id": job_id, "polls": polls, "lists": lists, **scope})

    def expire_tokens(self) -> None:
        self._do("expire_tokens", {})

    def advance(self, seconds: float) -> None:
        self._do("advance", {"seconds": seconds})

    def fault(self, operation: str = "*", **fault: Any) -> None:
        self._do("fault", {"operation": operation, **fault})

    def clear_faults(self) -> None:
        self._do("clear_faults", {})

    def limit(self, rate: float | None, burst: float | None = None, **scope: str | None) -> None:
        self._do("limit", {"rate": rate, "burst": burst, **scope})

    def deny(self, operation: str = "*", **denial: str | None) -> None:
        self._do("deny", {"operation": operation, **denial})

    def clear_denials(self, *, but_by_tag: bool = False) -> None:
        self._do("clear_denials", {"but_by_tag": but_by_tag})

    def calls(self, operation: str | None = None, since: int = 0, **scope: str | None) -> list[JSON]:
        return cast("list[JSON]", self._do("calls", {"operation": operation, "since": since, **scope}))

    def counts(self) -> dict[str, int]:
        return cast("dict[str, int]", self._do("counts", {}))

    def clear_calls(self) -> None:
        self._do("clear_calls", {})

    def terminate_requests(self, **scope: str | None) -> list[JSON]:
        return cast("list[JSON]", self._do("terminate_requests", scope))

    def settings(self, **changes: Any) -> JSON:
        return cast("JSON", self._do("settings", changes))

    def create_queue(self, name: str | None = None, **queue: Any) -> str:
        return cast("str", self._do("create_queue", queue | ({} if name is None else {"name": name})))

    def delete_queue(self, url: str) -> None:
        self._do("delete_queue", {"url": url})

    def purge_queue(self, url: str) -> None:
        self._do("purge_queue", {"url": url})

    def queues(self) -> list[str]:
        return cast("list[str]", self._do("queues", {}))

    def delivery(self, url: str | None = None, **how: float) -> None:
        self._do("delivery", {"url": url, **how})

    def disable_rule(self, url: str) -> None:
        self._do("disable_rule", {"url": url})

    def enable_rule(self, url: str) -> None:
        self._do("enable_rule", {"url": url})

    def send_message(self, url: str, body: str) -> str:
        return cast("str", self._do("send_message", {"url": url, "body": body}))

    def messages(self, url: str) -> list[JSON]:
        return cast("list[JSON]", self._do("messages", {"url": url}))

    def dead_letters(self, url: str) -> list[JSON]:
        return cast("list[JSON]", self._do("dead_letters", {"url": url}))
