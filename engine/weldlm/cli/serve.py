"""`weldlm serve`: a server of the OpenAI API."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.generation_options import MEMORY, PREFIXES, limits_of
from weldlm.cli.model_folder import (
    adapter_option,
    default_device,
    load_head,
    load_model,
    model_option,
    quantize_option,
)
from weldlm.cli.option_groups import GroupedCommand, add_options, option_of
from weldlm.cli.option_types import as_bytes
from weldlm.cli.options import device_option, dtype_option, given

if TYPE_CHECKING:
    import torch

    from weldlm.batch_limits import BatchLimits
    from weldlm.serve import EmbeddingService, GenerationService, ServeLimits

__all__ = ["serve"]

_LIMITS = "Limits"  # heading of options
_SHARE_OF_MEMORY = 0.5  # of what is free, for a cache whose size nobody gives


@click.command(cls=GroupedCommand, short_help="Serve a model by the OpenAI API.")
@model_option
@adapter_option
@quantize_option
@click.option("--name", help="That clients call the model by.  [default: of its folder or file]")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 is all networks.")
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@click.option("--api-key", envvar="WELDLM_API_KEY", show_envvar=True, help="Clients must send it.")
@device_option
@dtype_option
@option_of(_LIMITS, "--batch-size", type=int, help="Most sequences at a time.  [default: 64]")
@option_of(_LIMITS, "--max-length", type=int, help="Of a sequence.  [default: the model's context]")
@option_of(_LIMITS, "--max-requests", type=int, help="Beyond so many, 429.  [default: 256]")
@option_of(
    _LIMITS,
    "--max-body-bytes",
    type=as_bytes,
    metavar="BYTES",
    help="Beyond it, 413.  [default: 4MiB]",
)
@add_options(*MEMORY, *PREFIXES)
def serve(
    model: Path,
    adapter: Path | None,
    quantize: str | None,
    name: str | None,
    host: str,
    port: int,
    api_key: str | None,
    max_requests: int | None,
    max_body_bytes: int | None,
    device: str | None,
    dtype: str | None,
    **options: Any,
) -> int:
    """Serve a model by the OpenAI API, on this machine only unless --host says otherwise.

    \b
    Examples:
      weldlm serve --model smollm2
      curl http://127.0.0.1:8000/v1/completions -H "Content-Type: application/json" \\
        -d '{"prompt": "Once", "max_tokens": 20}'

    Models that write answer /v1/completions and /v1/chat/completions, encoders /v1/embeddings. What
    a server counts is at /metrics. Needs the extra serve: pip install "weldlm[serve]".
    """
    import torch

    _require_extra()
    from weldlm.serve import ServeLimits, build_app, run_server
    from weldlm.serve.run import bind

    sizes = given({"max_requests": max_requests, "max_body_bytes": max_body_bytes})
    serve_limits = ServeLimits(**sizes)
    limits = limits_of(options, batch_size=64)
    place, weights = default_device(device), getattr(torch, dtype) if dtype else None
    with bind(host, port) as taken:  # before a model is loaded in vain
        service = _service((model, adapter, quantize), name, place, weights, limits, serve_limits)
        address = f"[{host}]" if ":" in host else host
        click.echo(
            f"serving {service.model.name} at http://{address}:{taken.getsockname()[1]}/v1",
            err=True,
        )
        run_server(build_app(service, api_key=api_key or None), taken)
    return 0


def _require_extra() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise click.UsageError(
            f'{error.name} is not installed; run: pip install "weldlm[serve]"'
        ) from error


def _service(
    source: tuple[Path, Path | None, str | None],
    name: str | None,
    device: str,
    dtype: "torch.dtype | None",
    limits: "BatchLimits",
    serve_limits: "ServeLimits",
) -> "GenerationService | EmbeddingService":
    from weldlm.engine import Engine
    from weldlm.heads import SentenceEmbedder
    from weldlm.openai_api import ApiModel
    from weldlm.serve import EmbeddingService, GenerationService
    from weldlm.tokenizer import Tokenizer
    from weldlm.weights import load_config, path_of_model, read_pooling

    path, adapter, quantize = source
    name = name or path.resolve().name
    path = path_of_model(path)
    config = load_config(path)
    if not config.is_decoder and not config.has_cross_attention:
        tokenizer = Tokenizer.from_pretrained(path)
        length = config.context_length
        api_model = ApiModel(name=name, config=config, tokenizer=tokenizer, max_length=length)
        embedder = load_head(path, SentenceEmbedder, device, dtype, adapter, quantize)
        return EmbeddingService(api_model, embedder, serve_limits, read_pooling(path), limits)
    model, tokenizer = load_model(path, device, dtype, adapter, quantize)
    length = min(config.context_length, limits.max_length or config.context_length)
    api_model = ApiModel(name=name, config=config, tokenizer=tokenizer, max_length=length)
    weight = next(model.parameters())
    engine = Engine(model, tokenizer, _with_cache(limits, api_model, weight.dtype, device))
    return GenerationService(api_model, engine, serve_limits)


def _with_cache(
    limits: "BatchLimits", model: Any, dtype: "torch.dtype", device: str
) -> "BatchLimits":
    """Limits whose cache fits into memory, where its size is not given."""
    from dataclasses import replace

    import torch

    from weldlm.available_memory import available_bytes
    from weldlm.memory import cache_bytes

    free = available_bytes(device)
    if limits.cache_bytes is not None or free is None:
        return limits
    kept = torch.int8 if limits.cache_dtype == "int8" else dtype
    whole = cache_bytes(model.config, limits.batch_size * model.max_length, dtype=kept)
    most = int(free * _SHARE_OF_MEMORY)
    return limits if whole <= most else replace(limits, cache_bytes=most)
