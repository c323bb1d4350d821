"""Request bodies: JSON objects of bounded size and depth, without characters nobody can store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from django.db import models
from rest_framework import serializers
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import JSONParser

MAXIMUM_NAMED = 5
MAXIMUM_NAME_CHARACTERS = 60


class BoundedJSONParser(JSONParser):
    """JSON objects only. The size was checked by Django (`DATA_UPLOAD_MAX_MEMORY_SIZE`)."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            data: object = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The JSON in the body is nested too deeply.") from error
        if not isinstance(data, dict):
            raise ParseError('Send a JSON object: {"name": "value"}.')
        if not all(map(_can_be_stored, _texts(data))):
            raise ParseError("Texts must be free of NUL characters and of lone surrogates.")
        return data


def _texts(data: object) -> Iterator[str]:
    """Every text in a parsed body, keys included."""
    rest = [data]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            rest.extend(item)
        elif isinstance(item, dict):
            rest.extend(item.keys())
            rest.extend(item.values())


def _can_be_stored(text: str) -> bool:
    """PostgreSQL refuses NUL, and UTF-8 has no form for half of a surrogate pair."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class MomentField(serializers.DateTimeField):
    """Without a zone it is in the server's, where the first and the last day may not be whole."""

    def enforce_timezone(self, value: Any) -> Any:
        try:
            return super().enforce_timezone(value)
        except OverflowError:
            return self.fail("overflow")


class StrictMixin(serializers.Serializer[Any]):
    """Refuses fields that it does not know, so that a typing error never passes unnoticed."""

    serializer_field_mapping = {  # as the library's own
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: MomentField,
    }

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            # Inside a list anything may stand: the framework says what it expected.
            return super().to_internal_value(data)
        known = {name for name, field in self.fields.items() if not field.read_only}
        unknown = sorted(str(name) for name in data if name not in known)
        if unknown:
            raise ValidationError(
                {
                    name[:MAXIMUM_NAME_CHARACTERS]: [_refusal(name in self.fields, sorted(known))]
                    for name in unknown[:MAXIMUM_NAMED]
                }
            )
        return super().to_internal_value(data)


class NothingSerializer(StrictMixin):
    """The body of a request that needs none."""


def _refusal(is_read_only: bool, known: list[str]) -> str:
    if is_read_only:
        return "This field is set by Forge. Leave it out."
    if not known:
        return "There is no such field. Send an empty object, or nothing."
    return f"There is no such field. Possible: {', '.join(known)}."


def whole_number(text: str, name: str) -> int:
    """A query parameter as a number from 0 to 2**63 - 1. Raises ValidationError."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise ValidationError({name: "Give a whole number, 0 or more."})
    return int(text)
