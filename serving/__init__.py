"""The HTTP side of Twinspire: one Ray Serve deployment, tower and index in one process.

schema      requests and answers (pydantic): validation and the OpenAPI document come from it
problems    every 4xx as application/problem+json that names the field
request     one request: header, body within limits of size and time; and the reply
gate        who may do what: keys (keys) and rates (limits)
limits      rates, deadlines, and when the queue is full
headers     what makes browsers careful
logs        a JSON line for what is refused, fails or is slow
worker      a thread that takes whatever waits as one batch, so that the event loop never stalls
pipeline    the same for searches: Python in the event loop, the long calls without the GIL in a thread
encode      result rows to JSON bytes without the GIL
batch       many searches in one request
metrics     latency by stage, sizes of batches, empty results
events      exposures and outcomes, durably, and parts of them
outcomes    what shoppers did, as rows of the log
declared    the folder of experiments, followed
splitting   which arm answers a request
service     what a replica does, without HTTP: search, events, status
endpoints   the handlers: read a request, ask the service, write a reply
application the ASGI application: routing, refusals, logs
export      the metrics, to Ray's
deployment  the Ray Serve deployment (with export, the only modules here that import Ray; launch does so late)
launch      `twinspire serve`: ports, an own Ray, HAProxy, and the end of every process
"""
