"""Runs a server until a signal ends it."""

import socket

import uvicorn
from starlette.applications import Starlette

__all__ = ["bind", "run_server"]

_SECONDS_TO_FINISH = 5  # for calls under way when the server is ended


def bind(host: str, port: int) -> socket.socket:
    """Takes an address; port 0 takes a free port.

    Raises:
        OSError: somebody else has it, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.create_server((host, port), family=family, backlog=2_048)
    taken.setblocking(False)
    return taken


def run_server(app: Starlette, taken: socket.socket) -> None:
    """Serves; SIGINT and SIGTERM end it and are raised again."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    uvicorn.Server(config).run(sockets=[taken])
