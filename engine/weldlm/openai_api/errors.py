"""What is wrong with a request, in the shape that clients of the OpenAI API read."""

from typing import Any

__all__ = ["ApiError"]

_TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error"}


class ApiError(ValueError):
    """An answer that is an error.

    400 is a request that is no JSON or that the model cannot compute, 422 a field of another type
    or range.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}
