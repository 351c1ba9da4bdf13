"""Keep a running server saturated for a while, with some hostile requests among the good ones.

    xmore serve --port 8000 &
    python -m benchmarks.soak --url http://127.0.0.1:8000 --pid $! --seconds 600

The answers given in quiet at the beginning are compared with those under load. Prints memory,
descriptors and threads of the server at the start, after a warm-up, and at the end; exits 1 where a
good answer was wrong, a hostile request was answered with 5xx, or the server did not answer.
"""

import argparse
import asyncio
import io
import random
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
from PIL import Image

ROUTE = "/v1/classify"
LABELS = ["cat", "dog", "car", "tree", "cup of coffee"]
HOSTILE_SHARE = 0.05
TOLERANCE = 1e-3
"""Batches of other sizes round differently; a wrong answer is off by far more."""
WARM_UP_SHARE = 0.1


@dataclass(frozen=True)
class Sample:
    """What the server takes of the machine."""

    rss_mb: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, server: psutil.Process) -> "Sample":
        """Now."""
        with server.oneshot():
            rss_mb = server.memory_info().rss / 2**20
            return cls(rss_mb, server.num_fds(), server.num_threads())

    def __str__(self) -> str:
        return f"{self.rss_mb:8.1f} MiB RSS {self.descriptors:5d} fds {self.threads:4d} threads"


@dataclass
class Tally:
    """What came of the requests."""

    good: Counter[int] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    failed: int = 0


def photos(count: int, megapixels: float) -> list[bytes]:
    """JPEG files that differ, from a fixed seed, of 4 by 3."""
    rng = np.random.default_rng(0)
    side = round((megapixels * 1e6 / 12) ** 0.5)
    files = []
    for _ in range(count):
        small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((4 * side, 3 * side)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


async def classify(client: httpx.AsyncClient, photo: bytes) -> httpx.Response:
    """One good request."""
    return await client.post(
        ROUTE, files={"image": ("photo.jpg", photo)}, data={"labels": LABELS, "captions": 16}
    )


def probabilities(answer: Any) -> dict[str, float]:
    """The fused probability of each label."""
    return {p["label"]: p["probability"] for p in answer["results"][0]["predictions"]}


def same(found: dict[str, float], expected: dict[str, float]) -> bool:
    """Whether two answers agree as far as rounding allows."""
    return found.keys() == expected.keys() and all(
        abs(found[label] - expected[label]) <= TOLERANCE for label in expected
    )


class Hostile:
    """Requests that a public endpoint gets and nobody wants."""

    def __init__(self, client: httpx.AsyncClient, url: str, rng: random.Random) -> None:
        self._client = client
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rng = rng

    async def send(self, photo: bytes) -> tuple[str, int | None]:
        """One of them: its name, and the status it got if it waited for one."""
        kinds: list[Callable[[bytes], Awaitable[int | None]]] = [
            self.damaged,
            self.no_image,
            self.bomb,
            self.no_form,
            self.deep_json,
            self.leaver,
            self.half_form,
        ]
        kind = self._rng.choice(kinds)
        return kind.__name__, await kind(photo)

    async def damaged(self, photo: bytes) -> int:
        """A photo with bytes changed."""
        data = bytearray(photo)
        for _ in range(20):
            data[self._rng.randrange(len(data))] = self._rng.randrange(256)
        return (await classify(self._client, bytes(data))).status_code

    async def no_image(self, _: bytes) -> int:
        """Noise with an image's name."""
        return (await classify(self._client, self._rng.randbytes(100_000))).status_code

    async def bomb(self, _: bytes) -> int:
        """A GIF that claims to be enormous."""
        header = b"GIF89a" + b"\xff\xff\xff\xff" + b"\x80\0\0" + bytes(6)
        return (await classify(self._client, header)).status_code

    async def no_form(self, photo: bytes) -> int:
        """The bytes of a photo without a form."""
        return (await self._client.post(ROUTE, content=photo)).status_code

    async def deep_json(self, _: bytes) -> int:
        """Brackets without end."""
        response = await self._client.post(
            "/v1/zero-shot-image-classification",
            content=b"[" * 100_000,
            headers={"content-type": "application/json"},
        )
        return response.status_code

    async def leaver(self, photo: bytes) -> None:
        """A client that leaves once it has sent its head, or half of its photo."""
        _, writer = await asyncio.open_connection(*self._address)
        head = (
            f"POST {ROUTE} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(photo)}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        writer.write(head.encode() + photo[: self._rng.choice((0, len(photo) // 2))])
        await writer.drain()
        connection: socket.socket = writer.get_extra_info("socket")
        connection.shutdown(socket.SHUT_RDWR)
        writer.close()

    async def half_form(self, photo: bytes) -> int:
        """A form that breaks off."""
        body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + photo
        headers = {"content-type": "multipart/form-data; boundary=b"}
        return (await self._client.post(ROUTE, content=body, headers=headers)).status_code


async def worker(
    url: str, seed: int, files: list[bytes], expected: list[dict[str, float]], end: float
) -> Tally:
    """One client that asks without a pause until `end`."""
    tally = Tally()
    rng = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        hostile = Hostile(client, url, rng)
        while monotonic() < end:
            number = rng.randrange(len(files))
            try:
                if rng.random() < HOSTILE_SHARE:
                    kind, status = await hostile.send(files[number])
                    tally.hostile[f"{kind} {status or 'left'}"] += 1
                    tally.failed += status is not None and status >= 500
                    continue
                response = await classify(client, files[number])
            except httpx.HTTPError as error:
                tally.hostile[type(error).__name__] += 1
                tally.failed += 1
                continue
            tally.good[response.status_code] += 1
            if response.status_code == 200:
                tally.wrong += not same(probabilities(response.json()), expected[number])
            elif response.status_code == 429:
                await asyncio.sleep(float(response.headers["retry-after"]) * rng.random())
            else:
                tally.failed += 1
    return tally


async def soak(
    url: str, server: psutil.Process, seconds: float, clients: int, files: list[bytes]
) -> bool:
    """Run it and print what came of it; whether all was well."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        expected = [probabilities((await classify(client, photo)).json()) for photo in files]
    print(f"start    {Sample.of(server)}")
    end = monotonic() + seconds
    workers = [
        asyncio.create_task(worker(url, seed, files, expected, end)) for seed in range(clients)
    ]
    await asyncio.sleep(WARM_UP_SHARE * seconds)
    print(f"warm     {Sample.of(server)}")
    tallies = await asyncio.gather(*workers)
    # Connections that clients closed are noticed a moment later.
    await asyncio.sleep(2)
    print(f"end      {Sample.of(server)}")

    good = sum((tally.good for tally in tallies), Counter[int]())
    hostile = sum((tally.hostile for tally in tallies), Counter[str]())
    wrong = sum(tally.wrong for tally in tallies)
    failed = sum(tally.failed for tally in tallies)
    print(f"good     {dict(sorted(good.items()))}, {good[200] / seconds:.1f} answered a second")
    print(f"hostile  {dict(sorted(hostile.items()))}")
    print(f"wrong    {wrong}")
    print(f"failed   {failed}")
    return not wrong and not failed


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, required=True, help="of the server, on this machine")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--megapixels", type=float, default=0.3, help="of each photo")
    given = parser.parse_args()
    server = psutil.Process(given.pid)
    files = photos(20, given.megapixels)
    sys.exit(not asyncio.run(soak(given.url, server, given.seconds, given.clients, files)))


if __name__ == "__main__":
    main()
