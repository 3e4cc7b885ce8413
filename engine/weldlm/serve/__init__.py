"""A server of the OpenAI API over one model (extra `serve`: starlette and uvicorn).

The engine steps in a thread of its own; the event loop reads bodies, hands requests over and writes
what comes back.
"""

from weldlm.serve.app import build_app
from weldlm.serve.limits import ServeLimits
from weldlm.serve.run import run_server
from weldlm.serve.services import EmbeddingService, GenerationService

__all__ = ["EmbeddingService", "GenerationService", "ServeLimits", "build_app", "run_server"]
