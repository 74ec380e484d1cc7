"""`python -m tagger`: the same as `tagger`."""

from tagger.cli.main import main

main()
