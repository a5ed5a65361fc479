"""`python -m review_app`: the command `review_app`."""

from review_app.cli import main

main()
