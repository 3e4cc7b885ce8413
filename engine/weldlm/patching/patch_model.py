"""weldlm.patch: fused kernels and packed sequences for a model of transformers."""

import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from weldlm.patching.installed import has_own_forward, install, is_installed, uninstall
from weldlm.patching.kinds import (
    LEFT_TO_TORCH,
    READS_NO_PADDING,
    TESTED_TRANSFORMERS,
    Kind,
    kind_of,
)
from weldlm.patching.parameters import parameter_names, with_newest_names
from weldlm.patching.report import Entry, Report
from weldlm.patching.verification import compare, exact_gradients, loss_and_gradients

__all__ = ["patch"]


def patch(
    model: nn.Module, *, packed: bool = True, verify: Mapping[str, Any] | None = None
) -> Report:
    """Replaces the forwards of a transformers model, on this instance only.

    Known are GPT-2, Llama, Mistral, Qwen2, Qwen3, BERT, RoBERTa, ModernBERT, T5 and BART; modules
    of other classes, or of versions that take other arguments, are kept, with a warning where a
    kernel was to be expected.

    Args:
        model: the model, or a module that holds it (PEFT).
        packed: take padding out of the layers; states at padding are zeros then.
        verify: arguments of a forward with labels. Loss and gradients are compared with those
            before, by a copy of the model in fp64 (three times the memory, for that time).

    Returns:
        the report: `print` it, `revert()` it.

    Raises:
        ValueError: nothing in `model` is known, it is patched already, or `verify` finds a result
            beyond the rule; the model is as before then.
    """
    if any(is_installed(module) for module in model.modules()):
        raise ValueError("the model is patched already; revert() that report first")
    modules = dict(model.named_modules())
    reasons = {path: _reason(module) for path, module in modules.items()}
    kinds = {path: kind for path, module in modules.items() if (kind := kind_of(module))}
    if not any(kind.role != "rows" for kind in kinds.values()):
        raise ValueError(
            f"{type(model).__name__} holds no module of transformers that is known here; expected "
            "GPT-2, Llama, Mistral, Qwen2, Qwen3, BERT, RoBERTa, ModernBERT, T5 or BART"
        )
    _warn_of_versions(modules, kinds)
    padded_because = _why_padded(modules, kinds, reasons) if packed else "packed=False was given"
    if padded_because is not None:
        for path, kind in kinds.items():
            if kind.role in ("attention", "stack", "classifier"):
                reasons[path] = reasons[path] or f"sequences stay padded: {padded_because}"
    before = None
    if verify is not None:
        before = loss_and_gradients(model, verify), exact_gradients(model, verify)
    for path, kind in kinds.items():
        if reasons[path] is None:
            settings = kind.settings_for(parameter_names(modules[path]))
            install(modules[path], kind.forward, settings)
    report = Report(
        model,
        tuple(_entries(modules, kinds, reasons)),
        "packed" if padded_because is None else f"padded: {padded_because}",
        _transformers_version(),
    )
    if verify is not None and before is not None:
        _verify(model, verify, *before)
    return report


def _verify(model: nn.Module, batch: Mapping[str, Any], before: Any, exact: Any) -> None:
    try:
        failures = compare(before, loss_and_gradients(model, batch), exact)
    except BaseException:
        uninstall(model)
        raise
    if failures:
        uninstall(model)
        raise ValueError(
            f"verify: {len(failures)} results are beyond the rule, and the patch is reverted; "
            f"{'; '.join(failures[:3])}"
        )


def _reason(module: nn.Module) -> str | None:
    """Why a module is kept, None where its kernel can be installed."""
    kind = kind_of(module)
    if kind is None:
        return LEFT_TO_TORCH.get(type(module).__name__, "no kernel for this class")
    if has_own_forward(module):
        return "the instance has a forward of its own already"
    names = parameter_names(module)
    if with_newest_names(names) != kind.names:
        return f"its forward takes ({', '.join(names)}); known is ({', '.join(kind.names)})"
    return kind.obstacle(module)


def _why_padded(
    modules: dict[str, nn.Module], kinds: dict[str, Kind], reasons: dict[str, str | None]
) -> str | None:
    """What keeps the sequences padded; None where nothing does."""
    for path, kind in kinds.items():
        reason = reasons[path]
        if kind.role != "rows" and reason is not None:
            return f"{type(modules[path]).__name__} is kept ({reason})"
    if not any(kind.role == "stack" for kind in kinds.values()):
        return "no stack of layers that is known"
    for path, module in modules.items():
        holds_stack = any(
            kind.role == "stack" and inner.startswith(f"{path}." if path else "")
            for inner, kind in kinds.items()
        )
        name = type(module).__name__
        is_theirs = type(module).__module__.startswith("transformers.models.")
        if holds_stack and is_theirs and path not in kinds and name not in READS_NO_PADDING:
            return f"the outputs of {name} may depend on padding"
    return None


def _entries(
    modules: dict[str, nn.Module], kinds: dict[str, Kind], reasons: dict[str, str | None]
) -> list[Entry]:
    """Of what has a kernel, or could have one: containers are not listed."""
    return [
        Entry(
            path,
            type(module).__name__,
            kinds[path].kernel if reasons[path] is None else None,
            reasons[path],
        )
        for path, module in modules.items()
        if path in kinds or not module._modules
    ]


def _warn_of_versions(modules: dict[str, nn.Module], kinds: dict[str, Kind]) -> None:
    installed = _transformers_version()
    first, end = (_numbers(text) for text in TESTED_TRANSFORMERS)
    if installed != "absent" and not first <= _numbers(installed) < end:
        warnings.warn(
            f"transformers {installed} is not tested with weldlm.patch; tested is "
            f">={TESTED_TRANSFORMERS[0]},<{TESTED_TRANSFORMERS[1]}. Pass verify=batch to check it",
            RuntimeWarning,
            stacklevel=3,
        )
    unknown = {
        f"{type(modules[path]).__name__}.forward takes ({', '.join(names)})"
        for path, kind in kinds.items()
        if with_newest_names(names := parameter_names(modules[path])) != kind.names
    }
    for line in sorted(unknown):
        warnings.warn(
            f"{line}, which is not what weldlm.patch knows; these modules are kept",
            RuntimeWarning,
            stacklevel=3,
        )


def _numbers(text: str) -> tuple[int, ...]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _transformers_version() -> str:
    try:
        return version("transformers")
    except PackageNotFoundError:
        return "absent"
