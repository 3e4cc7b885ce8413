"""Measurements that a user can repeat: `weldlm bench`."""

from weldlm.bench.generation_bench import GenerationBench, bench_generation
from weldlm.bench.measurement import Measurement
from weldlm.bench.report import BenchReport, as_csv, as_json, as_markdown
from weldlm.bench.workload import Workload, decode_workload, mixed_workload, prefill_workload

__all__ = [
    "BenchReport",
    "GenerationBench",
    "Measurement",
    "Workload",
    "as_csv",
    "as_json",
    "as_markdown",
    "bench_generation",
    "decode_workload",
    "mixed_workload",
    "prefill_workload",
]
