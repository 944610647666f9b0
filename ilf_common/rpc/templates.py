"""Prompt templates as messages."""

from __future__ import annotations

from ilf.common.v1 import common_pb2

from ilf_common.templates import PromptTemplate


def template_from_proto(message: common_pb2.PromptTemplate) -> PromptTemplate:
    """The template that a message holds; nothing is checked."""
    return PromptTemplate(
        name=message.name,
        text=message.text,
        target_prefix=message.target_prefix,
        positive_answers=tuple(message.positive_answers),
        negative_answers=tuple(message.negative_answers),
    )


def template_to_proto(template: PromptTemplate) -> common_pb2.PromptTemplate:
    """The message of a template."""
    return common_pb2.PromptTemplate(
        name=template.name,
        text=template.text,
        target_prefix=template.target_prefix,
        positive_answers=template.positive_answers,
        negative_answers=template.negative_answers,
    )
