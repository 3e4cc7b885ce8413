"""What `python -m benchmarks.gpu_report` checks and times on a GPU."""
