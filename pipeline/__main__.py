import sys

from pipeline.cli import main

if __name__ == "__main__":
    # A file's name need not be UTF-8 on Linux, and must not stop the line that names it.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
