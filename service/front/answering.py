"""From what a FastAPI route was asked to its response, given up where the client goes. It knows no routes."""

from __future__ import annotations

import asyncio

from fastapi import Request, Response

from service.asked import Asked
from service.batching import Batcher
from service.errors import MalformedError


async def answer(request: Request, asked: Asked) -> Response:
    """Raises as `Batcher.predict`, and MalformedError, which nobody will read, where the client has gone."""
    batcher: Batcher = request.app.state.batcher
    running = asyncio.ensure_future(batcher.predict(asked.model, asked.inputs))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise MalformedError("the client went away")
        reply = asked.write(running.result())
    finally:
        running.cancel()
        leaving.cancel()
    return Response(reply.body, headers=dict(reply.headers), media_type=reply.media_type)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
