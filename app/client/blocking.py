"""`Client`: asks and waits."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

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
from app.client.images import ImageLike, as_list, read_image
from app.client.results import CaptionsFound, Classification, Info
from app.client.retry import Retry

T = TypeVar("T")


class Client:
    """A client of one server. Threads may share it; close it, or use it as a context.

    Refusals with 429 and 503 are asked again, after the time that `Retry-After` tells or else with
    growing pauses, and so are connections that were not made. Nothing else is.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT_S,
        retries: int = 3,
        max_wait_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Make a client; nothing is asked yet.

        Args:
            url: where the server is, with the path that a proxy puts before it.
            api_key: one of the server's `XMORE_API_KEYS`.
            timeout: seconds that sending and answering may each take, or httpx's own `Timeout`.
            retries: how often a request is asked again; 0 for never.
            max_wait_s: longest wait, in seconds, that the server may ask for before the next try.
            transport: httpx's transport, where certificates or a proxy need one.

        Raises:
            ValueError: `url` is no address of a server.
        """
        self._http = httpx.Client(**http_options(url, api_key, timeout), transport=transport)
        self._retry = Retry(retries, max_wait_s)

    def classify(
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
        """Classify one image, or a list of images in one request.

        What is left out is left to the server's default.

        Args:
            images: a path, bytes, a binary file, a PIL image or an array; or a list of them.
            labels: the labels to choose from.
            template: a prompt with one `{}` for the label; several make an ensemble.
            captions: K, how many captions vote; 0 asks for plain CLIP.
            fusion: how the votes of image and captions become one.
            normalization: how confidences become weights.
            crops: whether the corners of each image vote with it.
            top_k: how many predictions are returned for each image.
            index: the caption collection, by its name in `info().indexes`.
            votes: whether each caption tells what it says on each label, as a `VotingCaption`.

        Raises:
            BadImageError: an image cannot be read; nothing was asked.
            XmoreError: there is no answer, or it is a refusal; see `app.client.errors`.
        """
        uploads = [read_image(image, i) for i, image in enumerate(as_list(images))]
        return self._ask(
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

    def search(
        self,
        image: ImageLike | None = None,
        *,
        text: str | None = None,
        k: int | None = None,
        index: str | None = None,
    ) -> CaptionsFound:
        """The captions nearest to an image or to a text.

        Args:
            image: as for `classify`; or give `text`.
            text: words to search for; or give `image`.
            k: how many captions.
            index: the caption collection, by its name in `info().indexes`.

        Raises:
            TypeError: neither or both of image and text.
            BadImageError: the image cannot be read; nothing was asked.
            XmoreError: there is no answer, or it is a refusal; see `app.client.errors`.
        """
        if image is not None and text is None:
            return self._ask(search_call(read_image(image), k=k, index=index))
        if text is not None and image is None:
            return self._ask(search_call(text, k=k, index=index))
        raise TypeError("give either an image or a text")

    def info(self) -> Info:
        """What serves: model, caption collections, limits, version.

        Raises:
            XmoreError: there is no answer, or it is a refusal; see `app.client.errors`.
        """
        return self._ask(info_call())

    def ready(self) -> bool:
        """Whether the server takes requests now; False also where none is running. Never retries.

        Raises:
            UnexpectedAnswerError: something else runs there.
        """
        try:
            return is_ready(self._http.get("readyz"))
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({str(self._http.base_url)!r})"

    def _ask(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.send(call.request(self._http))
            except httpx.TransportError as error:
                wait_s = self._retry.after_error(attempt, error, repeatable=call.repeatable)
                if wait_s is None:
                    raise connection_error(error, self._http.base_url) from error
            else:
                wait_s = self._retry.after_response(attempt, response)
                if wait_s is None:
                    return read_answer(call, response)
            time.sleep(wait_s)
