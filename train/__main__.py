"""So that `torchrun -m train fit ...` works."""

from train.cli import main

main()
