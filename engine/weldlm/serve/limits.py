"""ServeLimits: what a server takes in."""

from dataclasses import dataclass

from weldlm.field_types import require_integers

__all__ = ["ServeLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """What a server takes in."""

    max_requests: int = 256  # most prompts under way and waiting; beyond them, 429
    max_body_bytes: int = 4 << 20  # of a request; a larger one is refused with 413
    max_body_seconds: float = 30.0  # in which the whole body must have come

    def __post_init__(self) -> None:
        require_integers(self)
        for name in ("max_requests", "max_body_bytes", "max_body_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
