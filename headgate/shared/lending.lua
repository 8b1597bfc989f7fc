-- The lender of a site's uplink, carried out by Redis as one step: headgate/shared/lending.py, ask(),
-- in Lua. A test compares the two; change both. Numbers are whole, and small enough for a double.

local LENGTH, LEAVING, REMEMBERED = TERMS.length, TERMS.leaving, TERMS.remembered
local WANT, MOST = TERMS.want, TERMS.most

local function quotient(a, b)
  return (a - a % b) / b
end

local function floor_of(entry)
  return math.min(entry.floor, quotient(entry.rate, entry.gateways))
end

local function fresh(entry, now)
  return now - entry.seen < LENGTH
end

local function counted(entry)
  local most = 0
  for _, lease in ipairs(entry.lent) do
    most = math.max(most, lease[2])
  end
  return most
end

-- Water-filling; wants: {bytes, age, holder}.
local function fill(rest, wants)
  table.sort(wants, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[3] < b[3]
  end)
  local shares, sum = {}, 0
  for at, want in ipairs(wants) do
    local share = math.min(want[1], quotient(rest - sum, #wants - at + 1))
    shares[want[3]] = share
    sum = sum + share
  end
  return shares, sum
end

local function wanted(bytes, floor)
  return math.max(0, quotient(bytes + WANT - 1, WANT) - floor)
end

local function share_of(rest, entries, now, floor, holder)
  local urgent, all, busy = {}, {}, {}
  for name, entry in pairs(entries) do
    if fresh(entry, now) then
      table.insert(urgent, {wanted(entry.urgent, floor), entry.oldest, name})
      if entry.waiting > 0 then
        table.insert(busy, {rest, entry.oldest, name})
      end
    end
  end
  local first, sum = fill(rest, urgent)
  for name, entry in pairs(entries) do
    if fresh(entry, now) then
      table.insert(all, {wanted(entry.waiting, floor) - first[name], entry.oldest, name})
    end
  end
  local second, more = fill(rest - sum, all)
  local extra = fill(rest - sum - more, busy)
  return first[holder] + second[holder] + (extra[holder] or 0)
end

local function ask(book, now, server, asked)
  if book == nil or book.server ~= server then
    book = {server = server, quiet = now + LENGTH, number = 0, entries = {}}
  end
  local quiet = math.min(book.quiet, now + LENGTH)
  local stepped = asked.stepped and asked.server == server
  if stepped then
    quiet = now + LENGTH
  end
  local entries = {}
  for holder, entry in pairs(book.entries) do
    local lent = {}
    for _, lease in ipairs(entry.lent) do
      if lease[3] > now and not stepped then
        table.insert(lent, {lease[1], lease[2], math.min(lease[3], now + LENGTH)})
      end
    end
    entry.lent, entry.seen = lent, math.min(entry.seen, now)
    entries[holder] = entry
  end
  local lent = {}
  for _, lease in ipairs(entries[asked.holder] and entries[asked.holder].lent or {}) do
    if asked.server ~= server then
      table.insert(lent, lease)
    elseif asked.leaving then
      if lease[1] <= asked.held then
        lease[3] = math.min(lease[3], now + LEAVING)
      end
      table.insert(lent, lease)
    elseif lease[1] >= asked.held then
      table.insert(lent, lease)
    end
  end
  local waiting = math.min(asked.waiting, MOST)
  local me = {
    gateway = asked.gateway, seen = now, rate = asked.rate, floor = asked.floor,
    gateways = asked.gateways, waiting = waiting, urgent = math.min(asked.urgent, waiting),
    oldest = math.min(asked.oldest, MOST), lent = lent,
  }
  entries[asked.holder] = me

  local kept, known, rate, floors, highest, most, others = {}, 0, nil, 0, 0, 1, 0
  local namesake = false
  for holder, entry in pairs(entries) do
    local forgotten
    if entry.gateway == asked.gateway then
      forgotten = not fresh(entry, now)
    else
      forgotten = now - entry.seen >= REMEMBERED
    end
    if holder == asked.holder or #entry.lent > 0 or not forgotten then
      kept[holder] = entry
      known = known + 1
      floors = floors + floor_of(entry)
      highest = math.max(highest, floor_of(entry))
      most = math.max(most, entry.gateways)
      if fresh(entry, now) then
        rate = math.min(rate or entry.rate, entry.rate)
      end
      if holder ~= asked.holder then
        others = others + counted(entry)
        namesake = namesake or (entry.gateway == asked.gateway and fresh(entry, now))
      end
    end
  end
  local rest = math.max(0, rate - floors - math.max(0, most - known) * highest)
  local number, granted, why = book.number + 1, 0, "lending"
  if asked.leaving then
    why = "left"
  elseif now < quiet then
    why = "just-started"
  else
    local share = share_of(rest, kept, now, floor_of(me), asked.holder)
    granted = math.max(0, math.min(share, rest - others))
  end
  if granted > 0 then
    table.insert(me.lent, {number, granted, now + LENGTH})
  end
  book = {server = server, quiet = quiet, number = number, entries = kept}
  return book, {server, now, number, granted, why, namesake and 1 or 0, known, rate}
end
