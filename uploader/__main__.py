"""``python -m uploader`` is ``headgate``."""

from uploader.cli import main

main()
