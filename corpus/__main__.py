"""`python -m corpus`: the command `corpus`."""

from corpus.cli import main

main()
