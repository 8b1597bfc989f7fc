"""``python -m uploader`` is ``headgate``."""

from uploader.cli.main import main

main()
