"""An aiohttp service with mail jobs, and a page that shows them live.

    pip install "imapipe[aiohttp]"
    python examples/aiohttp_service.py --port 8000                # on mail servers of its own
    IMAPIPE_PASSWORD=… python examples/aiohttp_service.py --url imaps://ann@imap.example.org --folder jobs

End it in the middle of a job with Ctrl-C, start it again with the same --folder, and the job goes on.
"""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web
from service import PAGE, make_jobs, settings_of

from imapipe.contrib.aiohttp import Service


async def get_page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with settings_of(__doc__ or "") as settings:
        app = web.Application()
        # Whoever may ask: web.Application(middlewares=[...]).
        Service(make_jobs(settings)).add_to(app, prefix="/mail")
        app.router.add_get("/", get_page)
        runner = web.AppRunner(app, shutdown_timeout=10)
        await runner.setup()
        with settings.listen() as listening:
            try:
                await web.SockSite(runner, listening).start()
                await stop.wait()
            finally:
                await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
