"""Milvus's own client with time limits on every question and its errors in our words.

The extra `milvus` is imported here, and only once a Milvus URL is used.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, Self

from app.index.manifest import CollectionError
from app.index.place import MilvusAddress, MilvusOptions
from app.index.search import FloatArray

METRIC = "IP"
ID = "id"

MAX_TEXT_BYTES = 65_535
"""Most bytes of UTF-8 that a text field holds."""

_LONG_S = 24 * 3600.0
"""Seconds for what takes as long as it takes: flushing, building an index, loading it."""

_BATCH_S = 120.0
_COUNT_S = 60.0

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_LOGGERS = (
    "pymilvus",
    "pymilvus.milvus_client",
    "pymilvus.bulk_writer",
    "milvus_lite",
    # The embedded engine's side of the socket: calls that it does not have.
    "grpc._server",
)
_CHANNEL = {
    # Found again soon after it is back; gRPC's own pauses grow to two minutes.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 1000,
}


REFUSED = "Milvus does not answer, or refuses."


class EngineError(Exception):
    """The engine did not answer, or said no; the message is for logs and the command line."""


def pauses_s() -> Iterator[float]:
    """Seconds between one try and the next: twice as long each time, up to five seconds."""
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


class MilvusClient:
    """What xmore asks of one collection. Methods may be called from any thread.

    pymilvus itself repeats, with growing pauses and within the time limit, what failed because
    the connection broke or the engine is busy.
    """

    def __init__(self, client: Any, address: MilvusAddress, options: MilvusOptions) -> None:
        self.address = address
        self._client = client
        self._name = address.collection
        self._timeout_s = options.timeout_s

    @classmethod
    def connect(cls, address: MilvusAddress, options: MilvusOptions) -> Self:
        """Connect; an engine that is not there yet gets its time to come.

        Raises:
            CollectionError: the extra is not installed, or no engine answers.
        """
        try:
            import pymilvus

            if address.is_embedded:
                import milvus_lite  # noqa: F401 - pymilvus would say so in other words
        except ImportError as error:
            raise CollectionError(
                "needs the extra `milvus`: pip install 'xmore[milvus]'", address, error
            ) from error
        _hush()
        deadline = monotonic() + options.start_timeout_s
        for pause in pauses_s():
            try:
                with _failures_in_words():
                    client = pymilvus.MilvusClient(
                        address.uri,
                        token=options.token,
                        db_name=options.database,
                        timeout=options.timeout_s,
                        dedicated=True,
                        grpc_options=_CHANNEL,
                        **({"server_pem_path": str(options.ca)} if options.ca else {}),
                    )
                break
            except EngineError as error:
                if address.is_embedded:
                    raise CollectionError(
                        "cannot be opened: its folder is missing, or another process has it open. "
                        "The embedded engine serves one process at a time.",
                        address,
                    ) from error
                if monotonic() + pause > deadline:
                    raise CollectionError(
                        f"no Milvus answers within {options.start_timeout_s:g} seconds. Is it "
                        "running, is the address right, and do XMORE_MILVUS_TOKEN and "
                        "XMORE_MILVUS_CA fit?",
                        address,
                        error,
                    ) from error
                sleep(pause)
        # pymilvus would reconnect by itself too, under a lock of the whole process in which
        # threads wait for each other's time limits; gRPC's channel reconnects without that.
        client._handler._on_rpc_error = lambda _: False  # noqa: SLF001
        return cls(client, address, options)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def exists(self) -> bool:
        """Whether there is a collection of this name.

        Raises:
            EngineError: no answer.
        """
        with _failures_in_words():
            return bool(self._client.has_collection(self._name, timeout=self._timeout_s))

    def properties(self) -> dict[str, str]:
        """What was written to the collection by `set_properties`.

        Raises:
            EngineError: no answer, or no such collection.
        """
        with _failures_in_words():
            told = self._client.describe_collection(self._name, timeout=self._timeout_s)
        return {str(key): str(value) for key, value in (told.get("properties") or {}).items()}

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Keep words with the collection.

        Raises:
            EngineError: no answer, or it refuses.
        """
        with _failures_in_words():
            self._client.alter_collection_properties(
                self._name, properties=dict(properties), timeout=self._timeout_s
            )

    def dimension(self, vector: str) -> int | None:
        """D of the vectors of a field; None where there is none of this name.

        Raises:
            EngineError: no answer, or no such collection.
        """
        with _failures_in_words():
            told = self._client.describe_collection(self._name, timeout=self._timeout_s)
        dims = [
            int(field["params"]["dim"])
            for field in told["fields"]
            if field["name"] == vector and "dim" in field.get("params", {})
        ]
        return dims[0] if dims else None

    def create(
        self, vector: str, dim: int, texts: Sequence[str], properties: Mapping[str, str]
    ) -> None:
        """Make the collection: an id, a field of vectors, and fields of text.

        Raises:
            EngineError: no answer, or it refuses.
        """
        import pymilvus

        schema = pymilvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ID, pymilvus.DataType.INT64, is_primary=True)
        schema.add_field(vector, pymilvus.DataType.FLOAT_VECTOR, dim=dim)
        for name in texts:
            schema.add_field(name, pymilvus.DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
        with _failures_in_words():
            self._client.create_collection(
                self._name,
                schema=schema,
                properties=dict(properties),
                # Rows never change once they serve: a search need not wait for the newest.
                consistency_level="Bounded",
                timeout=_LONG_S,
            )

    def drop(self) -> None:
        """Remove the collection.

        Raises:
            EngineError: no answer, or it refuses.
        """
        with _failures_in_words():
            self._client.drop_collection(self._name, timeout=_LONG_S)

    def upsert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows; those that are there already are replaced.

        Raises:
            EngineError: no answer, or it refuses.
        """
        with _failures_in_words():
            self._client.upsert(self._name, list(rows), timeout=_BATCH_S)

    def finish(self, vector: str, index_type: str, parameters: Mapping[str, int]) -> None:
        """Put all rows on disk, index them for inner products, and make them searchable.

        Raises:
            EngineError: no answer, or it refuses.
        """
        import pymilvus

        params = pymilvus.MilvusClient.prepare_index_params()
        params.add_index(vector, index_type=index_type, metric_type=METRIC, params=dict(parameters))
        with _failures_in_words():
            self._client.flush(self._name, timeout=_LONG_S)
            if vector not in self._client.list_indexes(self._name):
                self._client.create_index(self._name, params, timeout=_LONG_S)
            self._client.load_collection(self._name, timeout=_LONG_S)

    def load(self, patience_s: float) -> None:
        """See that the engine holds the collection ready: after a restart it may not.

        Raises:
            EngineError: no answer, or it takes longer than that.
        """
        with _failures_in_words():
            state = self._client.get_load_state(self._name, timeout=self._timeout_s)["state"]
            if state.name != "Loaded":
                self._client.load_collection(self._name, timeout=patience_s)

    def count(self) -> int:
        """How many rows it holds.

        Raises:
            EngineError: no answer, or it is not loaded.
        """
        with _failures_in_words():
            (row,) = self._client.query(
                self._name,
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=max(self._timeout_s, _COUNT_S),
            )
        return int(row["count(*)"])

    def some_rows(self, count: int, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Some rows: id and fields.

        Raises:
            EngineError: no answer, or it is not loaded.
        """
        with _failures_in_words():
            found = self._client.query(
                self._name,
                filter=f"{ID} >= 0",
                limit=count,
                output_fields=[ID, *fields],
                timeout=max(self._timeout_s, _COUNT_S),
            )
        return [dict(row) for row in found]

    def search(
        self,
        vector: str,
        queries: FloatArray,
        count: int,
        fields: Sequence[str],
        parameters: Mapping[str, int],
    ) -> list[list[dict[str, Any]]]:
        """The nearest rows to each query, (queries, d), best first: id and fields.

        Raises:
            EngineError: no answer within the time limit.
        """
        with _failures_in_words():
            found = self._client.search(
                self._name,
                data=list(queries),
                anns_field=vector,
                limit=count,
                output_fields=list(fields),
                search_params={"metric_type": METRIC, "params": dict(parameters)},
                timeout=self._timeout_s,
            )
        return [[{ID: hit[ID], **hit["entity"]} for hit in hits] for hits in found]


@contextmanager
def _failures_in_words() -> Iterator[None]:
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        raise EngineError(_first_line(error.message)) from error
    except grpc.RpcError as error:
        raise EngineError(_first_line(f"{error.code().name}: {error.details()}")) from error
    except ValueError as error:
        # gRPC's word for a channel that was closed meanwhile.
        raise EngineError(_first_line(str(error))) from error


def _first_line(message: object) -> str:
    lines = str(message).strip().splitlines() or ["no reason given"]
    return lines[0][:300]


def _hush() -> None:
    """Each failure is logged with its traceback otherwise, by handlers of their own."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.CRITICAL)
