"""The retention policy of a run, as both clients offer it.

A policy says which old versions of the keys of a run are kept: `keep-all`, `keep-last 10`,
`keep-for 7d` (us, ms, s, m, h, d), `union(keep-last 10, keep-for 7d)`, or
`composite(default keep-all, kv keep-last 3)`. It changes nothing by itself: a full compaction of
the database removes what the policy of each run lets go. The newest version of a key always stays.
"""

from __future__ import annotations

from typing import Any, Mapping

from . import calls
from .calls import Call, _change_run, _expect
from .types import OwnPolicy, Receipt, Retention, RetentionStats


def set_retention(policy: str) -> Call[Receipt]:
    """Makes this the policy of the run of the request."""
    return _change_run("set_retention", policy=policy)


def clear_retention() -> Call[Receipt]:
    """Takes the policy of the run away."""
    return _change_run("clear_retention")


def get_retention() -> Call[Retention]:
    """The policy of the run, and what holds."""

    def read(found: Mapping[str, Any]) -> Retention:
        own = found.get("own")
        return Retention(OwnPolicy(**own) if own is not None else None, found["effective"])

    return Call("run.get_retention", {}, _expect("retention", read))


def retention_stats() -> Call[RetentionStats]:
    """Counts the history of the run."""
    return Call("run.retention_stats", {}, _stats)


def retention_preview(policy: str) -> Call[RetentionStats]:
    """Counts what a policy would let go."""
    return Call("run.retention_preview", {"policy": policy}, _stats)


_stats = _expect("retention_stats", lambda found: calls._as(RetentionStats, found))


class RunRetention:
    """What the blocking client adds to a run."""

    _scope: Any

    def set_retention(self, policy: str) -> Receipt:
        """Makes this the policy of the run: an ordinary write, which a run that is not active
        refuses. Raises `InvalidArgument` for a text that is no policy."""
        receipt: Receipt = self._scope.run(set_retention(policy))
        return receipt

    def clear_retention(self) -> Receipt:
        """Takes the policy of the run away: the default of the server holds again."""
        receipt: Receipt = self._scope.run(clear_retention())
        return receipt

    def retention(self) -> Retention:
        """The policy of the run itself, if it has one, and what holds."""
        found: Retention = self._scope.run(get_retention())
        return found

    def retention_stats(self) -> RetentionStats:
        """Counts the history of the run, and what of it the policy in force lets go."""
        stats: RetentionStats = self._scope.run(retention_stats())
        return stats

    def retention_preview(self, policy: str) -> RetentionStats:
        """The same under another policy, as if it were in force. Changes nothing."""
        stats: RetentionStats = self._scope.run(retention_preview(policy))
        return stats


class AsyncRunRetention:
    """What the client for asyncio adds to a run."""

    _scope: Any

    async def set_retention(self, policy: str) -> Receipt:
        """Makes this the policy of the run: an ordinary write, which a run that is not active
        refuses. Raises `InvalidArgument` for a text that is no policy."""
        receipt: Receipt = await self._scope.run(set_retention(policy))
        return receipt

    async def clear_retention(self) -> Receipt:
        """Takes the policy of the run away: the default of the server holds again."""
        receipt: Receipt = await self._scope.run(clear_retention())
        return receipt

    async def retention(self) -> Retention:
        """The policy of the run itself, if it has one, and what holds."""
        found: Retention = await self._scope.run(get_retention())
        return found

    async def retention_stats(self) -> RetentionStats:
        """Counts the history of the run, and what of it the policy in force lets go."""
        stats: RetentionStats = await self._scope.run(retention_stats())
        return stats

    async def retention_preview(self, policy: str) -> RetentionStats:
        """The same under another policy, as if it were in force. Changes nothing."""
        stats: RetentionStats = await self._scope.run(retention_preview(policy))
        return stats
