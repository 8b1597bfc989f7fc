-- The book of what the gateways of a site hold of each day's pool, kept by Redis as one step:
-- headgate/shared/allowance.py, ask(), in Lua. A test compares the two; change both.

local function of_day(entry, day)
  for _, one in ipairs(entry.held) do
    if one[1] == day then
      return one[2]
    end
  end
end

local function count(names)
  local number = 0
  for _ in pairs(names) do
    number = number + 1
  end
  return number
end

local function ask(book, server, born, asked)
  if book == nil or book.server ~= server or asked.left[book.name] then
    book = {name = server .. '.' .. born, server = server, entries = {}}
  end
  local day, mine = asked.day, book.entries[asked.holder]
  local current = mine == nil or asked.turn > mine.turn
  if mine == nil then
    mine = {gateway = asked.gateway, turn = asked.turn, told = false, gateways = 0, floor = 0, pool = 0, held = {}}
  end
  if current then
    mine.turn = asked.turn
    if asked.book == book.name then
      mine = {
        gateway = asked.gateway, turn = asked.turn, told = true, gateways = asked.gateways,
        floor = asked.floor, pool = asked.pool, held = asked.held,
      }
    end
  end
  book.entries[asked.holder] = mine

  local names, of_today, needed, told, held = {}, {}, nil, {}, 0
  for _, one in pairs(book.entries) do
    if one.told then
      table.insert(told, one)
      names[one.gateway] = true
      needed = math.max(needed or 0, one.gateways)
      held = held + (of_day(one, day) or 0)
      if of_day(one, day) then
        table.insert(of_today, one)
      end
    end
  end
  local missing = math.max(0, (needed or asked.gateways) - count(names))
  local free = 0
  if missing == 0 then
    local today = #of_today > 0 and of_today or told
    local here, most, pool, floor = {}, 0, nil, 0
    for _, one in ipairs(today) do
      here[one.gateway] = true
      most = math.max(most, one.gateways)
      pool = math.min(pool or one.pool, one.pool)
      floor = math.max(floor, one.floor)
    end
    free = math.max(0, pool - math.max(0, count(here) - most) * floor - held)
  end
  local own = of_day(mine, day) or 0
  if current and mine.told and asked.book == book.name then
    local more = math.max(0, math.min(asked.want - own, free))
    own, free = own + more, free - more
    local kept = {}
    for _, one in ipairs(mine.held) do
      if one[1] ~= day then
        table.insert(kept, one)
      end
    end
    table.insert(kept, {day, own})
    mine.held = kept
  end
  return book, {book.name, mine.turn, own, free, missing}
end
