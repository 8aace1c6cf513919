"""The floor of a request: our server without a daemon, which answers everything with the bytes of a file."""

import asyncio
import sys

from exporter.web.http import Response
from exporter.web.server import Server

with open(sys.argv[1], "rb") as file:
    BODY = file.read()


async def main() -> None:
    server = Server(lambda _: Response(200, "application/octet-stream", BODY), on_error=print)
    (url,) = await server.start([("127.0.0.1", 0)])
    print(url.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
