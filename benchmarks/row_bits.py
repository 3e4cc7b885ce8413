"""Numbers of rows among which a row of a matrix product has other bits than among 512.

    python benchmarks/row_bits.py --threads 2

Batch-invariant generation on a CPU rests on what this prints (docs/generation.md).
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from weldlm_kernels import linear, pack_weight

__all__ = ["numbers_with_other_bits"]

SHAPES = [(16, 48), (17, 33), (64, 192), (768, 2304), (3072, 768), (576, 1536), (4864, 896)]
NUM_ROWS = [*range(1, 65), 127, 128, 129, 200, 256, 257, 511]


def numbers_with_other_bits(product: Callable[[Tensor], Tensor], x: Tensor) -> list[int]:
    """Of NUM_ROWS those among which rows of x [520, width] come out different."""
    whole = product(x)
    return [
        count
        for count in NUM_ROWS
        if not torch.equal(product(x[7 : 7 + count]), whole[7 : 7 + count])
    ]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, fp32")
    for width, out in SHAPES:
        weight, bias = torch.randn(out, width) / width**0.5, torch.randn(out)
        packed = pack_weight(weight)
        products = {
            "torch": lambda x, w=weight, b=bias: functional.linear(x, w, b),
            "packed": lambda x, w=packed, b=bias: linear(x, w, b),
        }
        x = torch.randn(520, width)
        for name, product in products.items():
            found = numbers_with_other_bits(product, x)
            print(f"{width:>5} -> {out:<5} {name:<7} {found or 'none'}")


if __name__ == "__main__":
    main()
