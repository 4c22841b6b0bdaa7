-- One chat request again and again, with the keys of a file in turn.
local keys = {}
for key in io.lines(os.getenv("BENCH_KEYS")) do keys[#keys + 1] = key end
local requests, turn = {}, 0

function init()
  local body = os.getenv("BENCH_BODY")
  for i, key in ipairs(keys) do
    local headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. key }
    requests[i] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
