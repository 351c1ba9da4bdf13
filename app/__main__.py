"""`python -m app`: the same as the command `xmore`."""

from app.cli import app

app()
