"""Saver: writes the checkpoints of a run, whole or in parts, at once or while it goes on."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from weldlm.checkpoint.folders import RANDOM, SHARDS, STATE, checkpoint_folder, seal_checkpoint
from weldlm.checkpoint.optimizer_state import optimizer_tensors
from weldlm.checkpoint.random_state import write_random_state
from weldlm.checkpoint.run_state import RunState
from weldlm.checkpoint.whole_files import write_whole
from weldlm.distributed import Replica
from weldlm.ema import Ema
from weldlm.weights import save_config

__all__ = ["Saver"]


@dataclass(frozen=True, slots=True)
class _Save:
    """A checkpoint under way, as a rank sees it."""

    folder: Path
    parts: "tuple[Future[Any], ...]" = ()  # work of this rank; the last one says how all went

    def wait(self) -> None:
        for part in self.parts:
            part.exception()

    def result(self) -> None:
        """Raises what kept the first rank from sealing the folder."""
        for part in self.parts[-1:]:
            part.result()


class Saver:
    """Takes checkpoints of a run one after the other; all ranks call its methods together.

    A block of it ends once no checkpoint is under way.
    """

    def __init__(self, out: Path, replica: Replica, optimizer: Optimizer, ema: Ema | None) -> None:
        """Nothing is written yet.

        Args:
            out: folder of the run.
            replica: the model.
            optimizer: of its weights.
            ema: an average of the weights.
        """
        self._out, self._replica, self._optimizer, self._ema = out, replica, optimizer, ema
        self._group: dist.ProcessGroup | None = None
        self._under_way: _Save | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None and not issubclass(error, Exception):
            return  # the program ends at once
        if self._under_way is not None:  # other ranks may not know of the error
            self._under_way.wait()
            self._under_way = None
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def begin(self, state: RunState) -> None:
        """Takes what the checkpoint of `state.step` holds; training may go on.

        Raises:
            OSError: it could not be written.
        """
        assert self._under_way is None
        if state.settings.state_dict_type == "full":
            self._under_way = self._save_whole(state)
        else:
            self._under_way = self._begin_shards(state)

    def finish(self) -> Path | None:
        """Waits for the checkpoint that is under way; returns it, or None where none is.

        Raises:
            OSError: it could not be written; the older checkpoints are as they were.
        """
        save, self._under_way = self._under_way, None
        if save is None:
            return None
        save.wait()
        self._replica.ranks.ask_first(save.result)
        return save.folder

    def _save_whole(self, state: RunState) -> _Save:
        model = self._replica.whole_model()
        averages = self._replica.whole_tensors(
            optimizer_tensors(self._replica.model, self._optimizer)
        )

        def save() -> None:
            own = {} if self._ema is None else self._ema.weights()
            num_bytes = _num_bytes([*model.parameters(), *averages.values(), *own.values()])
            head = model.kind
            with seal_checkpoint(self._out, state, num_bytes=num_bytes, head=head) as draft:
                write_whole(draft, model=model, averages=averages, ema=self._ema)
                write_random_state(draft / STATE / RANDOM, self._device)

        self._replica.ranks.ask_first(save)
        return _Save(checkpoint_folder(self._out, state.step))

    def _begin_shards(self, state: RunState) -> _Save:
        # here, because it takes a second that others need not wait
        from weldlm.checkpoint.shards import held_tensors, write_shards

        ranks = self._replica.ranks
        if self._group is None:
            self._group = ranks.new_group()
        draft = ExitStack()
        tensors = held_tensors(self._replica.model, self._optimizer, self._ema)
        folder = ranks.ask_first(lambda: self._open_draft(state, draft, tensors))
        written = write_shards(
            folder / STATE / SHARDS,
            tensors,
            group=self._group,
            is_async=state.settings.async_save,
        )
        sealed = (_in_thread(lambda: _seal(draft, written)),) if ranks.is_first else ()
        return _Save(checkpoint_folder(self._out, state.step), (written, *sealed))

    def _open_draft(self, state: RunState, draft: ExitStack, tensors: Mapping[str, Tensor]) -> Path:
        """Makes the folder, with all but the ranks' parts; closing `draft` seals it."""
        model, num_bytes = self._replica.model, _num_bytes(tensors.values())
        with ExitStack() as stack:
            folder = stack.enter_context(
                seal_checkpoint(self._out, state, num_bytes=num_bytes, head=model.kind)
            )
            save_config(model, folder)
            write_random_state(folder / STATE / RANDOM, self._device)
            draft.push(stack.pop_all())
        return folder

    @property
    def _device(self) -> torch.device:
        return next(self._replica.model.parameters()).device


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    """What all parts of them take together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _seal(draft: ExitStack, written: "Future[Any]") -> None:
    from weldlm.checkpoint.shards import wait_for_shards

    with draft:
        wait_for_shards(written)


def _in_thread(act: Callable[[], None]) -> "Future[None]":
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
    try:
        return executor.submit(act)
    finally:
        executor.shutdown(wait=False)
