"""Tags are names in the API; their rows never show."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from runners.models import MAXIMUM_TAGS, is_tag_name


@extend_schema_field(
    {
        "type": "array",
        "maxItems": MAXIMUM_TAGS,
        "items": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,39}$"},
    }
)
class TagNames(serializers.ListField):
    """A list of names in, the names of a row's tags out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.CharField(validators=[is_tag_name]),
            max_length=MAXIMUM_TAGS,
            **options,
        )

    def to_representation(self, data: Any) -> list[str]:
        return [tag.name for tag in data.all()]
