"""``python -m fastdock``."""

from fastdock.cli import main

main()
