"""The routes: each reads a request, asks the service, and shapes the answer."""

from http import HTTPStatus
from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import __version__
from app.api.access import METRICS, require_key
from app.api.admission import Gate, not_ready, stopping
from app.api.parsing import (
    check_labels,
    check_templates,
    parse_labels,
    read_base64,
    read_images,
    refuse_other_content,
    require_json,
)
from app.api.problems import Problem
from app.api.refusals import AWAY, CLASSIFY, GUARDED, NOT_READY, STUCK, ZERO_SHOT, documented
from app.api.schemas import (
    EXAMPLE_LABELS,
    ClassificationOut,
    IndexInfo,
    InfoOut,
    LimitsInfo,
    ModelInfo,
    StatusOut,
    ZeroShotLabel,
    ZeroShotRequest,
)
from app.clip.labels import DEFAULT_TEMPLATE
from app.clip.precision import precision_name
from app.engine import DEFAULT_CAPTIONS, MAX_CAPTIONS, Question, ServingNormalization
from app.index.manifest import CollectionAwayError
from app.metrics import Metrics
from app.service import Service
from app.settings import IndexAway, Settings
from app.xmore.ensemble import Fusion, Normalization

router = APIRouter()


async def get_settings(request: Request) -> Settings:
    """The settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


async def get_service(request: Request) -> Service:
    """The service, once it is ready.

    Raises:
        Problem: 503 while it is loading or shutting down.
    """
    service: Service | None = request.app.state.service
    if service is None:
        raise not_ready()
    return service


SettingsDependency = Annotated[Settings, Depends(get_settings)]
ServiceDependency = Annotated[Service, Depends(get_service)]

IndexField = Annotated[
    str | None,
    Form(
        description="The caption collection, by its name in `GET /v1/info`. Left out or empty: "
        "the first there.",
        examples=[""],
    ),
]


@router.post(
    "/v1/classify",
    tags=["classification"],
    summary="Classify images against labels, with the reasons",
    response_description="One result an image, in the order of the files.",
    dependencies=[Depends(require_key), Depends(refuse_other_content)],
    responses=documented(CLASSIFY),
)
async def classify(
    service: ServiceDependency,
    settings: SettingsDependency,
    image: Annotated[
        list[UploadFile],
        File(
            description="Image files: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or PPM. One to "
            "`max_images` (16), each of at most `max_image_bytes` bytes (20 MiB) and `max_pixels` "
            "pixels (50 million)."
        ),
    ],
    labels: Annotated[
        list[str],
        Form(
            description="The labels to choose from: a repeated field, or one JSON array of "
            "strings. One to `max_labels` (1000), all different, each of 1 to `max_label_length` "
            "(500) characters.",
            examples=[EXAMPLE_LABELS],
        ),
    ],
    template: Annotated[
        list[str] | None,
        Form(
            description="Prompts with one `{}` for the label, each of at most `max_label_length` "
            "(500) characters; several, up to `max_templates` (100), make an ensemble. Default: "
            f"`{DEFAULT_TEMPLATE}`",
            examples=[[DEFAULT_TEMPLATE]],
        ),
    ] = None,
    captions: Annotated[
        int,
        Form(
            ge=0,
            le=MAX_CAPTIONS,
            description="K, how many captions vote; 0: plain CLIP.",
            examples=[DEFAULT_CAPTIONS],
        ),
    ] = DEFAULT_CAPTIONS,
    fusion: Annotated[
        Fusion,
        Form(
            description="`confidence`: X-MoRe. `product`: geometric mean, nine tenths image. "
            "`mean`: half each. `image`: plain CLIP. `text`: captions only.",
            examples=[Fusion.CONFIDENCE],
        ),
    ] = Fusion.CONFIDENCE,
    normalization: Annotated[
        ServingNormalization,
        Form(
            description="`request`: each image by itself. `batch`: confidences are divided by "
            "their mean over the images of the request.",
            examples=[Normalization.REQUEST],
        ),
    ] = Normalization.REQUEST,
    crops: Annotated[
        bool,
        Form(
            description="Let the four corners of each image vote with it; takes five passes of the "
            "image tower in place of one."
        ),
    ] = False,
    top_k: Annotated[
        int | None,
        Form(
            ge=1,
            description="How many predictions are returned, the best first; probabilities sum to 1 "
            "before the cut. Default: all.",
            examples=[3],
        ),
    ] = None,
    index: IndexField = None,
    votes: Annotated[
        bool,
        Form(description="Whether each caption tells what it says on each label, as `votes`."),
    ] = False,
) -> ClassificationOut:
    """Classify each image against the labels and return the reasons.

    The image votes on the labels (CLIP), the captions retrieved for it vote too, and each vote
    counts by its confidence.
    """
    start = perf_counter()
    question = Question(
        labels=parse_labels(labels, settings),
        templates=check_templates(template or [DEFAULT_TEMPLATE], "template", settings),
        captions=captions,
        fusion=fusion,
        normalization=normalization,
        top_k=top_k,
        index=index,
        votes=votes,
        crops=crops,
    )
    service.engine.catalog.choose(index)
    files = await read_images(image, settings)
    answer = await service.classify(files, question)
    return ClassificationOut.of(
        answer,
        model=service.engine.model.name,
        index=answer.index,
        total_ms=1000 * (perf_counter() - start),
    )


@router.post(
    "/v1/zero-shot-image-classification",
    tags=["classification"],
    summary="Hugging Face's zero-shot image classification task",
    response_description="Every label with its score, best first.",
    dependencies=[Depends(require_key), Depends(require_json)],
    responses=documented(ZERO_SHOT),
)
async def zero_shot_image_classification(
    service: ServiceDependency, settings: SettingsDependency, body: ZeroShotRequest
) -> list[ZeroShotLabel]:
    """Classify one image, as `huggingface_hub.InferenceClient` asks for it."""
    template = body.parameters.hypothesis_template or DEFAULT_TEMPLATE
    question = Question(
        labels=check_labels(body.parameters.candidate_labels, "candidate_labels", settings),
        templates=check_templates([template], "hypothesis_template", settings),
    )
    answer = await service.classify([read_base64(body.inputs, settings)], question)
    if answer.degraded:
        # Hugging Face's schema has no place to say so.
        raise CollectionAwayError(answer.index)
    return [
        ZeroShotLabel(label=prediction.label, score=prediction.probability)
        for prediction in answer.results[0].predictions
    ]


@router.get(
    "/v1/info",
    tags=["service"],
    summary="What serves, and its limits",
    response_description="Model, caption collections, limits and version.",
    dependencies=[Depends(require_key)],
    responses=documented(GUARDED | NOT_READY),
)
async def info(service: ServiceDependency, settings: SettingsDependency) -> InfoOut:
    """Model, caption collections, limits and version."""
    model = service.engine.model
    indexes = [
        IndexInfo.of(name, collection)
        for name, collection in service.engine.catalog.collections.items()
    ]
    return InfoOut(
        version=__version__,
        model=ModelInfo(
            name=model.name,
            fingerprint=model.fingerprint,
            embed_dim=model.embed_dim,
            precision=precision_name(model.dtype),
            device=model.device.type,
            engine=model.engine,
            threads=service.engine.threads,
            batch_size=settings.batch_size,
            parallel_batches=service.parallel_batches,
            decode_threads=service.decode_threads,
        ),
        index=indexes[0],
        indexes=indexes,
        limits=LimitsInfo(
            max_image_bytes=settings.max_image_bytes,
            max_pixels=settings.max_pixels,
            max_images=settings.max_images,
            max_labels=settings.max_labels,
            max_label_length=settings.max_label_length,
            max_templates=settings.max_templates,
            max_captions=MAX_CAPTIONS,
        ),
    )


@router.get(
    "/healthz",
    tags=["service"],
    summary="Whether it is alive",
    response_description="It is.",
    responses=documented(STUCK),
)
async def healthz(request: Request) -> StatusOut:
    """Alive: the process answers, and the inference worker is not stuck once there is one."""
    service: Service | None = request.app.state.service
    fault = None if service is None else service.fault()
    if fault is not None:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, fault)
    return StatusOut(status="ok")


@router.get(
    "/readyz",
    tags=["service"],
    summary="Whether it is ready for traffic",
    response_description="It is.",
    responses=documented(NOT_READY | AWAY),
)
async def readyz(
    request: Request, service: ServiceDependency, settings: SettingsDependency
) -> StatusOut:
    """Ready for traffic: model and collection are loaded and the service is not stopping.

    While the default collection lies in a Milvus that does not answer, the service is not ready,
    unless it is set to answer with plain CLIP then: it is ready, and says `degraded`.
    """
    gate: Gate = request.app.state.gate
    if gate.closed:
        raise stopping()
    name, collection = service.engine.catalog.choose()
    if collection.away is None:
        return StatusOut(status="ready")
    if settings.index_away is IndexAway.PLAIN:
        return StatusOut(status="degraded")
    raise CollectionAwayError(name)


@router.get(METRICS, include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Counts, latencies and the queue, as Prometheus reads them."""
    told: Metrics = request.app.state.metrics
    return Response(generate_latest(told.registry), media_type=CONTENT_TYPE_LATEST)
