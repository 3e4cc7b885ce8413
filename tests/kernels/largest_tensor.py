"""Watches how large the tensors are that operations of PyTorch return."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["LargestTensor"]


class LargestTensor(TorchDispatchMode):
    """Records the elements of the largest tensor that an operation returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        tensors = output if isinstance(output, tuple) else (output,)
        self.numel = max([self.numel] + [x.numel() for x in tensors if isinstance(x, Tensor)])
        return output
