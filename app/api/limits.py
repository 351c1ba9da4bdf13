"""Limits on a form, enforced while it is parsed."""

from typing import NamedTuple

from app.settings import Settings

_OTHER_FIELDS = 16
_MIN_FIELDS = 20_000
_MIN_PART_BYTES = 2**20
_MAX_BYTES_PER_CHARACTER = 6  # "\uXXXX" in JSON


class FormLimits(NamedTuple):
    """How much of a form is parsed."""

    max_files: int
    max_fields: int
    max_part_size: int


def form_limits(settings: Settings) -> FormLimits:
    """How many files and fields a form may have, and the bytes of one field.

    One file and many labels more than allowed are let through, so that the route can name the limit
    that was broken; a field is large enough for all labels as one JSON array.
    """
    return FormLimits(
        max_files=settings.max_images + 1,
        max_fields=max(_MIN_FIELDS, settings.max_labels + settings.max_templates + _OTHER_FIELDS),
        max_part_size=max(
            _MIN_PART_BYTES,
            _MAX_BYTES_PER_CHARACTER * settings.max_labels * (settings.max_label_length + 4),
        ),
    )
