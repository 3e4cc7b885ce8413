"""EngineWorker: the one thread that drives an engine."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from weldlm.engine import Engine, EngineCounts, Event
from weldlm.generation_request import Request

__all__ = ["Delivery", "EngineWorker"]

# the id of a request, and what came of it; after an error nothing follows
Delivery: TypeAlias = tuple[int | str, Event | Exception]


class EngineWorker:
    """Takes requests from any thread and delivers their events, those of a step together.

    An engine that breaks down in a step fails the requests that are under way, and goes on with
    those that come after them.
    """

    def __init__(self, engine: Engine, deliver: Callable[[Sequence[Delivery]], None]) -> None:
        """Starts the thread; `deliver` is called in it."""
        self.counts: EngineCounts = engine.counts  # after the last step
        self.num_failures = 0  # of steps
        self._engine, self._deliver = engine, deliver
        self._under_way: set[int | str] = set()
        # a request, the id of one that nobody waits for any more, or None for the end
        self._inbox: SimpleQueue[Request | int | str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="weldlm-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Hands a request over; its error, too, is delivered."""
        self._inbox.put(request)

    def abort(self, request_id: int | str) -> None:
        """Drops a request, if it is still under way."""
        self._inbox.put(request_id)

    def close(self) -> None:
        """Ends the thread after the step that it is in."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._read_inbox():
            if self._engine.has_work:
                self._step()
            self.counts = self._engine.counts

    def _read_inbox(self) -> bool:
        """Does what was asked, waiting for it where nothing is under way; False at the end."""
        must_wait = not self._engine.has_work
        while must_wait or not self._inbox.empty():
            must_wait = False
            message = self._inbox.get()
            if message is None:
                return False
            if isinstance(message, Request):
                self._add(message)
            else:
                self._drop(message)
        return True

    def _add(self, request: Request) -> None:
        try:
            self._engine.add(request)
        except ValueError as error:
            self._deliver([(request.id, error)])
        else:
            self._under_way.add(request.id)

    def _drop(self, request_id: int | str) -> None:
        self._engine.abort(request_id)
        self._under_way.discard(request_id)

    def _step(self) -> None:
        try:
            events = self._engine.step()
        except Exception as error:  # whatever the model breaks down with
            self.num_failures += 1
            failed = list(self._under_way)
            for request_id in failed:
                self._drop(request_id)
            self._deliver([(request_id, error) for request_id in failed])
            return
        for event in events:
            if event.completion is not None:
                self._under_way.discard(event.request_id)
        if events:
            self._deliver([(event.request_id, event) for event in events])
