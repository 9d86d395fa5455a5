"""A FastAPI service with mail jobs, and a page that shows them live.

    pip install "imapipe[fastapi]" uvicorn
    python examples/fastapi_service.py --port 8000                # on mail servers of its own
    IMAPIPE_PASSWORD=… python examples/fastapi_service.py --url imaps://ann@imap.example.org --folder jobs

End it in the middle of a job with Ctrl-C, start it again with the same --folder, and the job goes on.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from service import PAGE, make_jobs, settings_of

from imapipe.contrib.fastapi import Service


async def main() -> None:
    # uvicorn raises the signal again when it has ended, and that would end us before our own cleaning up.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    async with settings_of(__doc__ or "") as settings:
        service = Service(make_jobs(settings))
        app = FastAPI(title="Mail jobs", lifespan=service.lifespan)
        # Whoever may ask: dependencies=[Depends(...)].
        app.include_router(service.router(), prefix="/mail")

        @app.get("/", include_in_schema=False)
        async def get_page() -> FileResponse:
            return FileResponse(PAGE)

        with settings.listen() as listening:
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10)
            await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
