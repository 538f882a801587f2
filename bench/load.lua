-- The requests of wrk: the calls given, in turn. Bodies are built once; a request only fills in user ids and decision ids.
--
--   wrk ... URL -- seed=1 first_user=10000000 users=10000 open_decisions=1000000 first_time=1793491200000 rewarded=0
--       call=PATH,FILE,ITEMS ... [token=TOKEN]
--
-- FILE holds one item as JSON with USER in it, and DECISION where it is a reward; ITEMS is how many make a batch, 0 for a
-- call that is none. A reward is for the next open decision; see open_decisions.py, which computes the same names.

local SCATTER = 611953

local options = {}
local calls = {}
local turn = 0
rewarded = 0 -- global, so that done() can ask the thread for it

local function any_user()
    return options.first_user + math.random(0, options.users - 1)
end

local function next_open_decision()
    local place = rewarded * SCATTER % options.open_decisions
    rewarded = rewarded + 1
    local time = options.first_time + place
    local decision = string.format("%08x-%04x-7000-8000-%012d", math.floor(time / 65536), time % 65536, place)
    return options.first_user + place % options.users, decision
end

-- Returns a function that returns the next request.
local function make_call(path, name, items)
    local file = assert(io.open(name))
    local item = file:read("*a")
    file:close()
    local before, between, after = item:match("^(.-)USER(.-)DECISION(.*)$")
    local is_reward = before ~= nil
    if not is_reward then
        before, after = item:match("^(.-)USER(.*)$")
    end
    -- Any name of the right length, for the Content-Length.
    local pieces = { "", items > 0 and '{"items":[' or "" }
    local places = {}
    for i = 1, math.max(items, 1) do
        pieces[#pieces + 1] = (i > 1 and "," or "") .. before
        pieces[#pieces + 1] = tostring(options.first_user)
        places[i] = #pieces
        if is_reward then
            pieces[#pieces + 1] = between
            pieces[#pieces + 1] = ("0"):rep(36)
        end
        pieces[#pieces + 1] = after
    end
    pieces[#pieces + 1] = items > 0 and "]}" or ""
    local headers = { ["Content-Type"] = "application/json" }
    if options.token then
        headers["Authorization"] = "Bearer " .. options.token
    end
    pieces[1] = wrk.format("POST", path, headers, table.concat(pieces)):match("^.-\r\n\r\n")
    return function()
        for i = 1, #places do
            local place = places[i]
            if is_reward then
                pieces[place], pieces[place + 2] = next_open_decision()
            else
                pieces[place] = any_user()
            end
        end
        return table.concat(pieces)
    end
end

function init(arguments)
    local named = {}
    for _, argument in ipairs(arguments) do
        local name, value = argument:match("^([%w_]+)=(.*)$")
        if name == "call" then
            named[#named + 1] = value
        elseif name == "token" then
            options.token = value
        else
            options[name] = tonumber(value)
        end
    end
    math.randomseed(options.seed)
    rewarded = options.rewarded
    for i, call in ipairs(named) do
        local path, file, items = call:match("^(.-),(.*),(%d+)$")
        calls[i] = make_call(path, file, tonumber(items))
    end
end

function request()
    turn = turn % #calls + 1
    return calls[turn]()
end

local sender

function setup(thread)
    sender = thread
end

function done(summary, latency)
    local errors = summary.errors
    local result = {
        seconds = summary.duration / 1e6,
        requests = summary.requests,
        refused = errors.status,
        broken = errors.connect + errors.read + errors.write + errors.timeout,
        p50 = latency:percentile(50) / 1e3,
        p99 = latency:percentile(99) / 1e3,
        p999 = latency:percentile(99.9) / 1e3,
        rewarded = sender:get("rewarded"),
    }
    local fields = {}
    for name, value in pairs(result) do
        fields[#fields + 1] = string.format('"%s": %.6f', name, value)
    end
    io.write("{", table.concat(fields, ", "), "}\n")
end
