"""The requests and answers of the OpenAI API, as JSON objects; no transport lives here.

ValueError
  ApiError   what is wrong with a request, with its HTTP status
"""

from weldlm.openai_api.answers import answer_call, chunk, final_chunk, first_chunks, usage_chunk
from weldlm.openai_api.calls import ApiModel, Call, read_call
from weldlm.openai_api.embeddings import EmbeddingCall, answer_embeddings, read_embedding_call
from weldlm.openai_api.errors import ApiError
from weldlm.openai_api.fields import Fields
from weldlm.openai_api.settings import change_settings

__all__ = [
    "ApiError",
    "ApiModel",
    "Call",
    "EmbeddingCall",
    "Fields",
    "answer_call",
    "answer_embeddings",
    "change_settings",
    "chunk",
    "final_chunk",
    "first_chunks",
    "read_call",
    "read_embedding_call",
    "usage_chunk",
]
