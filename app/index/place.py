"""Where a collection lies: in a directory, or in Milvus under a URL; how Milvus is reached."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

_PREFIX = re.compile(r"milvuss?:")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_PORT = 19530
_FORMS = (
    "milvus://HOST:PORT/NAME (milvuss:// with TLS), or milvus:PATH/FILE.db/NAME for the embedded "
    "engine on a local file; NAME of letters, digits and underscores"
)


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """A collection in Milvus.

    Attributes:
        url: as it is written in settings and messages; holds no secret.
        uri: the engine, as its client takes it: `http://…`, `https://…`, or a local file.
        collection: its name there.
    """

    url: str
    uri: str
    collection: str

    def __str__(self) -> str:
        return self.url

    @property
    def is_embedded(self) -> bool:
        """Whether the engine is a local file, opened by this process alone."""
        return "://" not in self.uri


Place: TypeAlias = Path | MilvusAddress


@dataclass(frozen=True, slots=True)
class MilvusOptions:
    """How Milvus is reached.

    Attributes:
        token: `user:password` or an API key; empty: none. Never part of a message.
        database: empty: the server's default one.
        ca: the PEM file of the authority that signed the server's certificate; None: the usual
            authorities.
        timeout_s: seconds that one question may take, retries included.
        start_timeout_s: seconds that an engine gets to be there when a collection is opened.
    """

    token: str = ""
    database: str = ""
    ca: Path | None = None
    timeout_s: float = 2.0
    start_timeout_s: float = 30.0

    def __repr__(self) -> str:
        """Without the token."""
        return f"MilvusOptions(database={self.database!r}, timeout_s={self.timeout_s:g})"


def parse_place(text: str) -> Place:
    """A directory, or what a Milvus URL names.

    Raises:
        ValueError: it begins like a Milvus URL and is none, or holds a user or password.
    """
    if not _PREFIX.match(text):
        return Path(text)
    if "@" in text:
        raise ValueError("a Milvus URL holds no user or password: set XMORE_MILVUS_TOKEN")
    scheme, _, rest = text.partition(":")
    engine, _, collection = rest.rpartition("/")
    if not _NAME.fullmatch(collection):
        raise ValueError(f"not a collection in Milvus; it looks like {_FORMS}")
    if not rest.startswith("//"):
        if scheme != "milvus" or not engine.endswith(".db"):
            raise ValueError(f"not a collection in Milvus; it looks like {_FORMS}")
        return MilvusAddress(text, engine, collection)
    try:
        parts = urlsplit(f"{scheme}:{engine}")
        host, port = parts.hostname, parts.port or _PORT
    except ValueError as error:
        raise ValueError(f"not a Milvus server ({error}); it looks like {_FORMS}") from None
    if not host or parts.path or parts.query or parts.fragment:
        raise ValueError(f"not a collection in Milvus; it looks like {_FORMS}")
    shown = f"[{host}]" if ":" in host else host
    protocol = "https" if scheme == "milvuss" else "http"
    return MilvusAddress(text, f"{protocol}://{shown}:{port}", collection)
