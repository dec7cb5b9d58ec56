-- Each request carries the next line of the file BENCH_PRESIGNED as its payment header; when they run out, none, so that
-- the answers show it. With BENCH_UNIQUE, each has a query of its own. `done` prints one JSON line.

function init(args)
  prepared = {}
  position = 0
  unique = os.getenv("BENCH_UNIQUE")
  local path = os.getenv("BENCH_PRESIGNED")
  if path then
    local name = os.getenv("BENCH_HEADER") or "PAYMENT-SIGNATURE"
    for line in io.lines(path) do
      prepared[#prepared + 1] = wrk.format(nil, nil, { [name] = line })
    end
  end
  plain = wrk.format()
end

function request()
  position = position + 1
  if unique then
    return wrk.format(nil, wrk.path .. "?unique=" .. unique .. "-" .. position)
  end
  return prepared[position] or plain
end

function done(summary, latency, requests)
  io.write(string.format(
    '\n{"requests":%d,"duration_us":%d,"bytes":%d,"not_2xx":%d,"failed":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, summary.bytes, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
