-- Posts the bodies of the file named by the first argument, one a line, over and over; prints its figures as JSON.
local requests, number = {}, 0

init = function(arguments)
  local headers = {["content-type"] = "application/json"}
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

request = function()
  number = number % #requests + 1
  return requests[number]
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'FIGURES {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "bytes": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.bytes, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
