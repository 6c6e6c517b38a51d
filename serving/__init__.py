"""The HTTP side of Twinspire: one Ray Serve deployment, tower and index in one process.

schema      requests and answers (pydantic): validation and the OpenAPI document come from it
problems    every 4xx as application/problem+json that names the field
worker      a thread that takes whatever waits as one batch, so that the event loop never stalls
pipeline    the same for searches: Python in the event loop, the long calls without the GIL in a thread
encode      result rows to JSON bytes without the GIL
service     what a replica does, without HTTP: search, feedback, status
application the ASGI application: routing, limits, the pages
deployment  the Ray Serve deployment (the only module here that imports Ray)
launch      `twinspire serve`: ports, an own Ray, HAProxy, and the end of every process
"""
