"""The use cases of aliases: names that point at one version now and at another later."""

from __future__ import annotations

import logging

from ilf_common.errors import FailedPreconditionError, NotFoundError
from services.refinement.ledger import PolicyLedger
from services.refinement.models import PolicyAlias
from services.refinement.serving import ServedModels
from services.refinement.validation import check_names

log = logging.getLogger("ilf.refinement.aliases")


class AliasService:
    """Promotes versions and rolls them back.

    Args:
        models: What is served.
        ledger: Keeps aliases over restarts.
    """

    def __init__(self, models: ServedModels, ledger: PolicyLedger) -> None:
        self._models = models
        self._ledger = ledger

    async def promote(self, alias: str, name: str, request_id: str) -> PolicyAlias:
        """Points an alias at a version.

        Raises:
            NotFoundError: reason MODEL_NOT_FOUND.
            FailedPreconditionError: reason POLICY_CONFLICT; the alias is the name of a version.
        """
        check_names(request_id, alias=alias, name=name)
        async with self._ledger.changing:
            if self._models.knows(alias):
                raise FailedPreconditionError(
                    f"{alias!r} is the name of a version; choose another alias.",
                    reason="POLICY_CONFLICT",
                    metadata={"resource": alias},
                )
            target = self._models.resolve(name)
            if not self._models.is_usable(target):
                raise self._models.not_found(name)
            current = self._models.alias(alias)
            if current is not None and current.policy == target:
                return current
            return self._point(PolicyAlias(alias, target, current.policy if current else "", request_id))

    async def rollback(self, alias: str, request_id: str) -> PolicyAlias:
        """Points an alias back at its previous version; a repeat with the same request id changes nothing.

        Raises:
            NotFoundError: reason ALIAS_NOT_FOUND.
            FailedPreconditionError: reason NO_PREVIOUS_POLICY.
        """
        check_names(request_id, alias=alias)
        async with self._ledger.changing:
            current = self._models.alias(alias)
            if current is None:
                raise NotFoundError(
                    f"There is no alias {alias!r}; promote a version to it first.",
                    resource_type="alias",
                    resource_name=alias,
                    reason="ALIAS_NOT_FOUND",
                )
            if request_id and current.request_id == request_id:
                return current
            if not self._models.is_usable(current.previous_policy):
                raise FailedPreconditionError(
                    f"{alias!r} points at {current.policy!r} and has no previous version that is still loaded.",
                    reason="NO_PREVIOUS_POLICY",
                    metadata={"resource": alias},
                )
            return self._point(PolicyAlias(alias, current.previous_policy, "", request_id))

    def _point(self, alias: PolicyAlias) -> PolicyAlias:
        self._ledger.save_alias(alias)
        self._models.set_alias(alias)
        log.info("alias points", extra={"alias": alias.alias, "policy": alias.policy})
        return alias
