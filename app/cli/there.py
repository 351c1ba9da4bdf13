"""Answers from a running server: images are sent in groups, the next while it computes."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import cast

from app.cli.asked import Answer, Asked, BadImage, shown
from app.client import AsyncClient, BadImageError, InvalidRequestError, Limits
from app.client.calls import FusionName
from app.client.results import Classification

_GROUP = 8
"""Images in one request, where the server takes so many."""

_IN_FLIGHT = 2
"""Requests at once: the server computes one while the other is on its way."""

_RETRIES = 8

_ABOUT_AN_IMAGE = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)

Warn = Callable[[str], None]


def answers(
    url: str, api_key: str | None, asked: Asked, paths: Sequence[str], warn: Warn
) -> Generator[Answer]:
    """One answer an image, in order.

    Args:
        url: the server.
        api_key: one of its keys, where it wants one.
        asked: what is asked about each image.
        paths: image files.
        warn: told once what the server did otherwise than one may expect.

    Raises:
        XmoreError: the server does not answer, or refuses what is asked.
        ValueError: `url` is no address.
    """
    with asyncio.Runner() as runner:
        # Where nothing answers at all, nobody should wait for long to hear so.
        limits = runner.run(_limits(AsyncClient(url, api_key=api_key)))
        client = AsyncClient(url, api_key=api_key, retries=_RETRIES)
        try:
            sender = _Sender(client, asked, limits, warn)
            yield from sender.answers(runner, paths)
        finally:
            runner.run(client.aclose())


async def _limits(client: AsyncClient) -> Limits:
    async with client:
        return (await client.info()).limits


class _Sender:
    """Sends the images of one run to one server."""

    def __init__(self, client: AsyncClient, asked: Asked, limits: Limits, warn: Warn) -> None:
        self._client = client
        self._asked = asked
        self._limits = limits
        self._warn = warn
        self._warned: set[str] = set()

    def answers(self, runner: asyncio.Runner, paths: Sequence[str]) -> Generator[Answer]:
        """One answer an image, in order. What is in flight goes on while the loop runs."""
        rest = iter(paths)
        loop = runner.get_loop()
        waiting: deque[asyncio.Task[list[Answer]]] = deque()
        size = min(_GROUP, self._limits.max_images)
        while group := list(islice(rest, size)):
            waiting.append(loop.create_task(self._ask(group)))
            if len(waiting) >= _IN_FLIGHT:
                yield from runner.run(_wait(waiting.popleft()))
        while waiting:
            yield from runner.run(_wait(waiting.popleft()))

    async def _ask(self, group: Sequence[str]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        for place, path in enumerate(group):
            reason = self._too_large(path)
            if reason:
                answers[place] = BadImage(shown(path), reason)
        places = [place for place in range(len(group)) if place not in answers]
        try:
            results = await self._classify([group[place] for place in places])
        except InvalidRequestError as error:
            if error.status not in _ABOUT_AN_IMAGE:
                raise
            # One bad image spoils the group: each by itself shows which.
            results = [await self._ask_one(group[place]) for place in places]
        except BadImageError:
            results = [await self._ask_one(group[place]) for place in places]
        answers |= zip(places, results, strict=True)
        return [answers[place] for place in range(len(group))]

    async def _ask_one(self, path: str) -> Answer:
        try:
            return (await self._classify([path]))[0]
        except BadImageError as error:
            return BadImage(shown(path), error.reason)
        except InvalidRequestError as error:
            if error.status not in _ABOUT_AN_IMAGE:
                raise
            return BadImage(shown(path), error.errors[0].detail if error.errors else error.detail)

    async def _classify(self, paths: Sequence[str]) -> list[Answer]:
        if not paths:
            return []
        asked = self._asked
        answer = await self._client.classify(
            list(paths),
            asked.labels,
            template=asked.templates,
            captions=asked.captions,
            fusion=cast("FusionName | None", asked.fusion),
            crops=asked.crops,
            top_k=asked.top_k,
            index=asked.index,
        )
        self._pass_on(answer)
        return [
            replace(result, filename=shown(path))
            for path, result in zip(paths, answer.results, strict=True)
        ]

    def _too_large(self, path: str) -> str | None:
        try:
            size = Path(path).stat().st_size
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        most = self._limits.max_image_bytes
        return f"the file has {size} bytes, at most {most} are allowed" if size > most else None

    def _pass_on(self, answer: Classification) -> None:
        for warning in answer.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self._warn(warning)


async def _wait(task: asyncio.Task[list[Answer]]) -> list[Answer]:
    return await task
