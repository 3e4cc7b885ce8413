"""`python -m weldlm`, the command line where the script is not on the path (as under torchrun)."""

from weldlm.cli import main

main()
