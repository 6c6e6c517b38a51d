"""`python -m twinspire` is `twinspire`."""

from twinspire.cli import main

main()
