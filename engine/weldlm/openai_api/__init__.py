"""The requests and answers of the OpenAI API, as JSON objects; no transport lives here.

ValueError
  ApiError   what is wrong with a request, with its HTTP status
"""

from weldlm.openai_api.answers import answer_call, chunk, final_chunk, first_chunks, usage_chunk
from weldlm.openai_api.calls import ApiModel, Call, read_call
from weldlm.openai_api.embeddings import EmbeddingCall, answer_embeddings, read_embedding_call
from weldlm.openai_api.errors import ApiError

__all__ = [
    "ApiError",
    "ApiModel",
    "Call",
    "EmbeddingCall",
    "answer_call",
    "answer_embeddings",
    "chunk",
    "final_chunk",
    "first_chunks",
    "read_call",
    "read_embedding_call",
    "usage_chunk",
]
