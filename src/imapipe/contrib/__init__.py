"""imapipe inside of other programs: jobs that outlive a request (`jobs`), and services with FastAPI and aiohttp."""
