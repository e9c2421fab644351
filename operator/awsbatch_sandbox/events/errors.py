"""Errors of EventBridge and SQS."""


class ServiceError(Exception):
    """The service refuses the call; `code` is the error's name in the JSON protocol."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
