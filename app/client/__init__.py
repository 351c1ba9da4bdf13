"""A client of the service: `Client` waits for each answer, `AsyncClient` is for asyncio and trio.

    from app.client import Client

    with Client("http://127.0.0.1:8000") as client:
        print(client.classify("cat.jpg", ["cat", "dog"]))

It needs httpx and pydantic; neither torch nor FastAPI is imported.
"""

from app.client.asynchronous import AsyncClient
from app.client.blocking import Client
from app.client.errors import (
    AnswerTimeoutError,
    BadImageError,
    ConnectionFailedError,
    FieldProblem,
    InternalServerError,
    InvalidRequestError,
    ProblemError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    XmoreError,
)
from app.client.images import ImageLike
from app.client.results import (
    Caption,
    CaptionsFound,
    Classification,
    ImageResult,
    Index,
    Info,
    Limits,
    Modalities,
    Modality,
    Model,
    Prediction,
    Timings,
    VotingCaption,
)

__all__ = [
    "AnswerTimeoutError",
    "AsyncClient",
    "BadImageError",
    "Caption",
    "CaptionsFound",
    "Classification",
    "Client",
    "ConnectionFailedError",
    "FieldProblem",
    "ImageLike",
    "ImageResult",
    "Index",
    "Info",
    "InternalServerError",
    "InvalidRequestError",
    "Limits",
    "Modalities",
    "Modality",
    "Model",
    "Prediction",
    "ProblemError",
    "Timings",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "VotingCaption",
    "XmoreError",
]
