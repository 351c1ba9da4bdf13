"""`python -m benchmarks`: measure, print the table, write the JSON.

python -m benchmarks --quick
python -m benchmarks --json results.json
python -m benchmarks --models mini ViT-B-32 --figures bound tail --no-plot
"""

import argparse
import sys
from pathlib import Path
from typing import get_args


def main() -> None:
    """Read the command line and run."""
    # Imported here: the process of the load starts from this file too, and needs none of it.
    from app.settings import ROOT
    from benchmarks.effort import FULL, QUICK
    from benchmarks.models import ARCHITECTURES, MINI
    from benchmarks.report import markdown
    from benchmarks.results import FigureName
    from benchmarks.run import Wanted, run

    names = get_args(FigureName)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the service against its targets."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes, and `mini` alone unless told otherwise"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help=f"of {MINI} and open_clip's vision transformers with random weights; "
        f"default: {MINI} {' '.join(ARCHITECTURES)}",
    )
    parser.add_argument("--figures", nargs="+", choices=names, default=names, metavar="FIGURE",
        help=f"of {', '.join(names)}; default: all")  # fmt: skip
    parser.add_argument("--no-plot", action="store_true", help="leave out the numbers of clients")
    parser.add_argument(
        "--json", type=Path, default=ROOT / ".bench" / "results.json", help="default: %(default)s"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / ".bench",
        help="keeps infinity-emb's virtual environment; default: %(default)s",
    )
    given = parser.parse_args()
    results = run(
        Wanted(
            models=given.models or ([MINI] if given.quick else [MINI, *ARCHITECTURES]),
            figures=given.figures,
            plot=not given.no_plot,
            effort=QUICK if given.quick else FULL,
            mode="quick" if given.quick else "full",
            cache=given.cache,
        ),
        say=lambda words: print(words, file=sys.stderr, flush=True),
    )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(results.model_dump_json(indent=1))
    print(markdown(results), end="")


if __name__ == "__main__":
    main()
