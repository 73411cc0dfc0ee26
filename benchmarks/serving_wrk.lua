-- Sends the requests of a pool in turn, from a given one on, and ends with what was answered as one JSON line.

local pool = {}
local at = 0

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    local content = file:read("*a")
    file:close()
    local place = 1
    while place <= #content do
        local start = place + 8
        place = start + tonumber(content:sub(place, start - 1))
        pool[#pool + 1] = content:sub(start, place - 1)
    end
    at = tonumber(arguments[2])
end

function request()
    at = at % #pool + 1
    return pool[at]
end

function done(summary, latency)
    local errors = summary.errors
    local form = '{"seconds": %f, "answers": %d, "refused": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f}\n'
    io.write(form:format(
        summary.duration / 1e6,
        summary.requests,
        errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3
    ))
end
