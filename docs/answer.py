"""Draw what a command printed as an SVG, for the picture of an answer in the README.

COMMAND="xmore classify chelsea.png -l cat -l dog -l rabbit -l fox -l owl"
FORCE_COLOR=1 COLUMNS=84 $COMMAND | COLUMNS=84 python docs/answer.py "$COMMAND" > docs/answer.svg
"""

import os
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    """Read coloured text from stdin, write the SVG to stdout; the argument is its title."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, file=nowhere)
        console.print(Text.from_ansi(sys.stdin.read().rstrip()))
        svg = console.export_svg(title=sys.argv[1])
    # rich asks a font server for its typeface; any monospaced one of the reader's will do.
    sys.stdout.write(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main()
