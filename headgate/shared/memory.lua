-- What the gateways of a site remember together of their images, carried out by Redis as one step.
-- ARGV: the operation, the prefix of all keys, and what headgate/shared/memory.py passes to it.
--
--   image:<id>       "<gateway> <life> <ms> <receipt as JSON>"; "-" for the receipt: withdrawn
--   identity:<hash>  fields that are ids: which image has this identity
--   claim:<hash>     the token of an upload that is becoming durable; says nothing of any image
--   memory:<gateway> the life of this gateway's entries; entries of another life do not count
--   open:<gateway>   ids whose state may still change, by when that was last looked at
--   images           all of them, the oldest first, with their identities: what goes when it is full

local PREFIX = ARGV[2]
local TRIM = 100

local function name(...)
  return PREFIX .. table.concat({...}, ':')
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function entry(id)
  local text = redis.call('GET', name('image', id))
  if text then
    return text, string.match(text, '^(%S+) (%S+) (%d+) (.*)$')
  end
end

local function known(id)
  local text, gateway, life, _, receipt = entry(id)
  if gateway and receipt ~= '-' and redis.call('GET', name('memory', gateway)) == life then
    return text
  end
end

-- Pairs of a hash and a field, from ARGV[first] on.
local function pairs_from(first)
  local found = {}
  for at = first, #ARGV - 1, 2 do
    table.insert(found, {ARGV[at], ARGV[at + 1]})
  end
  return found
end

-- Let the entries of this life count, and no others; false: a later life has begun.
local function live(gateway, life)
  local key = name('memory', gateway)
  local of, number = string.match(life, '^(.*)%.(%d+)$')
  local other, last = string.match(redis.call('GET', key) or '', '^(.*)%.(%d+)$')
  if other == of and tonumber(last) > tonumber(number) then
    return false
  end
  redis.call('SET', key, life)
  return true
end

local operations = {}

-- token, ms, pairs: the first decides, all are claimed.
function operations.claim()
  local identities = pairs_from(5)
  local id = redis.call('HGET', name('identity', identities[1][1]), identities[1][2])
  local text = id and known(id)
  if text then
    return {text, 0}
  end
  for _, one in ipairs(identities) do
    local holder = redis.call('GET', name('claim', one[1], one[2]))
    if holder and holder ~= ARGV[3] then
      return {'', 1}
    end
  end
  for _, one in ipairs(identities) do
    redis.call('SET', name('claim', one[1], one[2]), ARGV[3], 'PX', ARGV[4])
  end
  return {'', 0}
end

local function release(token, identities)
  for _, one in ipairs(identities) do
    local claim = name('claim', one[1], one[2])
    if redis.call('GET', claim) == token then
      redis.call('DEL', claim)
    end
  end
end

-- token, pairs
function operations.release()
  release(ARGV[3], pairs_from(4))
  return 0
end

local function drop_identity(id, hash, field)
  if redis.call('HGET', name('identity', hash), field) == id then
    redis.call('HDEL', name('identity', hash), field)
  end
end

local function trim(most)
  for _ = 1, TRIM do
    if redis.call('LLEN', name('images')) <= most then
      return
    end
    local line = cjson.decode(redis.call('LPOP', name('images')))
    local _, gateway = entry(line[1])
    if gateway then
      redis.call('DEL', name('image', line[1]))
      redis.call('ZREM', name('open', gateway), line[1])
    end
    for at = 2, #line, 2 do
      drop_identity(line[1], line[at], line[at + 1])
    end
  end
end

-- token, gateway, life, ms, most, alive, settled, id, receipt, pairs
function operations.keep()
  local token, gateway, life, ms, most = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
  local alive, settled, id, receipt = ARGV[8] == '1', ARGV[9] == '1', ARGV[10], ARGV[11]
  local at = now()
  local before, _, _, when, was = entry(id)
  if not live(gateway, life) then
    return 0
  end
  if was == '-' and at - tonumber(when) < 60000 then
    return 0  -- what is said may be older than that it was withdrawn
  end
  local text = table.concat({gateway, life, string.format('%.0f', at), receipt}, ' ')
  local identities = pairs_from(12)
  if before then
    redis.call('SET', name('image', id), text, 'KEEPTTL')
  else
    redis.call('SET', name('image', id), text, 'PX', ms)
    local line = {id}
    for _, one in ipairs(identities) do
      table.insert(line, one[1])
      table.insert(line, one[2])
    end
    redis.call('RPUSH', name('images'), cjson.encode(line))
    redis.call('PEXPIRE', name('images'), ms)
  end
  for _, one in ipairs(identities) do
    local identity = name('identity', one[1])
    local other = redis.call('HGET', identity, one[2])
    if not alive then
      drop_identity(id, one[1], one[2])
    elseif not other or not known(other) then
      redis.call('HSET', identity, one[2], id)
      redis.call('PEXPIRE', identity, ms)
    end
  end
  release(token, identities)
  if settled then
    redis.call('ZREM', name('open', gateway), id)
  else
    redis.call('ZADD', name('open', gateway), at, id)
    redis.call('PEXPIRE', name('open', gateway), ms)
  end
  trim(most)
  return 1
end

-- id
function operations.look()
  return known(ARGV[3]) or ''
end

-- a hash, and a field or "*": the image with this identity
function operations.look_up()
  local identity, ids = name('identity', ARGV[3]), {}
  if ARGV[4] == '*' then
    ids = redis.call('HVALS', identity)
  else
    ids = {redis.call('HGET', identity, ARGV[4])}
  end
  for _, id in ipairs(ids) do
    local text = id and known(id)
    if text then
      return text
    end
  end
  return ''
end

-- gateway, life, ids
function operations.withdraw()
  local at = string.format('%.0f', now())
  for n = 5, #ARGV do
    if redis.call('EXISTS', name('image', ARGV[n])) == 1 then
      local text = table.concat({ARGV[3], ARGV[4], at, '-'}, ' ')
      redis.call('SET', name('image', ARGV[n]), text, 'KEEPTTL')
      redis.call('ZADD', name('open', ARGV[3]), at, ARGV[n])
    end
  end
  return 0
end

-- gateway, life, how many: ids whose state was looked at longest ago; those that are gone are dropped
function operations.open()
  local open, found = name('open', ARGV[3]), {}
  live(ARGV[3], ARGV[4])
  for _, id in ipairs(redis.call('ZRANGE', open, 0, ARGV[5] - 1)) do
    if redis.call('EXISTS', name('image', id)) == 1 then
      redis.call('ZADD', open, now(), id)
      table.insert(found, id)
    else
      redis.call('ZREM', open, id)
    end
  end
  return found
end

return operations[ARGV[1]]()
