"""The routes of caption collections: search one, and load them again."""

from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, UploadFile

from app.api.access import require_key
from app.api.parsing import read_images, refuse_other_forms
from app.api.problems import field_problem
from app.api.refusals import RELOAD, SEARCH, documented
from app.api.routes import IndexField, ServiceDependency, SettingsDependency
from app.api.schemas import CaptionsFoundOut, IndexInfo, ReloadedOut
from app.engine import DEFAULT_CAPTIONS, ImageFile
from app.settings import Settings

router = APIRouter()

MAX_FOUND = 1000
"""Most captions that one search returns."""


@router.post(
    "/v1/captions/search",
    tags=["captions"],
    summary="The captions nearest to an image or a text",
    response_description="At most `k` captions, best first.",
    dependencies=[Depends(require_key), Depends(refuse_other_forms)],
    responses=documented(SEARCH),
)
async def search_captions(
    service: ServiceDependency,
    settings: SettingsDependency,
    image: Annotated[
        UploadFile | None,
        File(
            description="An image file of at most `max_image_bytes` bytes (20 MiB) and "
            "`max_pixels` pixels (50 million). Give this or `text`."
        ),
    ] = None,
    text: Annotated[
        str | None,
        Form(
            description="A text of 1 to `max_label_length` (500) characters. Give this or `image`.",
            examples=["a cat asleep on a sofa"],
        ),
    ] = None,
    k: Annotated[
        int,
        Form(
            ge=1,
            le=MAX_FOUND,
            description="How many captions are returned; fewer where the collection has fewer.",
            examples=[DEFAULT_CAPTIONS],
        ),
    ] = DEFAULT_CAPTIONS,
    index: IndexField = None,
) -> CaptionsFoundOut:
    """Search a caption collection, as classification does, by an image or by a text."""
    service.engine.catalog.choose(index)
    found = await service.search(await _query(image, text, settings), k, index)
    return CaptionsFoundOut.of(found, service.engine.model.name)


async def _query(image: UploadFile | None, text: str | None, settings: Settings) -> ImageFile | str:
    if (image is None) == (text is None):
        raise field_problem("image", "give either an image file or `text`")
    if image is not None:
        return (await read_images([image], settings))[0]
    words = (text or "").strip()
    if not words:
        raise field_problem("text", "is blank")
    if len(words) > settings.max_label_length:
        raise field_problem(
            "text",
            f"{len(words)} characters, at most {settings.max_label_length} are allowed",
        )
    return words


@router.post(
    "/v1/index/reload",
    tags=["captions"],
    summary="Load the caption collections again",
    response_description="What serves from now on.",
    dependencies=[Depends(require_key)],
    responses=documented(RELOAD),
)
async def reload_collections(service: ServiceDependency) -> ReloadedOut:
    """Open the collections again, on disk and in Milvus, check them, and serve from them.

    Requests in flight finish with what they began with. If one of the collections is bad, all go
    on serving as they were, and the answer says why.
    """
    await service.reload()
    return ReloadedOut(
        indexes=[
            IndexInfo.of(name, collection)
            for name, collection in service.engine.catalog.collections.items()
        ]
    )
