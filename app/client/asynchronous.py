"""`AsyncClient`: the same for asyncio and trio. Files are read off the event loop."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import anyio
import httpx

from app.client.calls import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    Call,
    FusionName,
    NormalizationName,
    classify_call,
    connection_error,
    http_options,
    info_call,
    is_ready,
    read_answer,
    search_call,
)
from app.client.images import ImageLike, Upload, as_list, read_image
from app.client.results import CaptionsFound, Classification, Info
from app.client.retry import Retry

T = TypeVar("T")


class AsyncClient:
    """`Client` for event loops: the same arguments, answers and errors, awaited."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT_S,
        retries: int = 3,
        max_wait_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Make a client; see `Client`.

        Raises:
            ValueError: `url` is no address of a server.
        """
        self._http = httpx.AsyncClient(**http_options(url, api_key, timeout), transport=transport)
        self._retry = Retry(retries, max_wait_s)

    async def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        labels: Sequence[str],
        *,
        template: str | Sequence[str] | None = None,
        captions: int | None = None,
        fusion: FusionName | None = None,
        normalization: NormalizationName | None = None,
        crops: bool | None = None,
        top_k: int | None = None,
        index: str | None = None,
        votes: bool | None = None,
    ) -> Classification:
        """Classify one image, or a list of images in one request; see `Client.classify`.

        Raises:
            BadImageError: an image cannot be read; nothing was asked.
            XmoreError: there is no answer, or it is a refusal; see `app.client.errors`.
        """
        uploads = [await _read(image, i) for i, image in enumerate(as_list(images))]
        return await self._ask(
            classify_call(
                uploads,
                labels,
                template=template,
                captions=captions,
                fusion=fusion,
                normalization=normalization,
                crops=crops,
                top_k=top_k,
                index=index,
                votes=votes,
            )
        )

    async def search(
        self,
        image: ImageLike | None = None,
        *,
        text: str | None = None,
        k: int | None = None,
        index: str | None = None,
    ) -> CaptionsFound:
        """The captions nearest to an image or to a text; see `Client.search`.

        Raises:
            TypeError: neither or both of image and text.
            BadImageError: the image cannot be read; nothing was asked.
            XmoreError: there is no answer, or it is a refusal; see `app.client.errors`.
        """
        if image is not None and text is None:
            return await self._ask(search_call(await _read(image), k=k, index=index))
        if text is not None and image is None:
            return await self._ask(search_call(text, k=k, index=index))
        raise TypeError("give either an image or a text")

    async def info(self) -> Info:
        """What serves: model, caption collections, limits, version.

        Raises:
            XmoreError: there is no answer, or it is a refusal; see `app.client.errors`.
        """
        return await self._ask(info_call())

    async def ready(self) -> bool:
        """Whether the server takes requests now; False also where none is running. Never retries.

        Raises:
            UnexpectedAnswerError: something else runs there.
        """
        try:
            return is_ready(await self._http.get("readyz"))
        except httpx.TransportError:
            return False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._http.base_url)!r})"

    async def _ask(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.send(call.request(self._http))
            except httpx.TransportError as error:
                wait_s = self._retry.after_error(attempt, error, repeatable=call.repeatable)
                if wait_s is None:
                    raise connection_error(error, self._http.base_url) from error
            else:
                wait_s = self._retry.after_response(attempt, response)
                if wait_s is None:
                    return read_answer(call, response)
            await anyio.sleep(wait_s)


async def _read(image: ImageLike, position: int = 0) -> Upload:
    return await anyio.to_thread.run_sync(read_image, image, position)
