-- Format, epoch, last and snapshot of a log, where all are numbers that a server can have written;
-- otherwise nothing: somebody else wrote them, and they stand for no log. What is of another format
-- is given whatever it says, and left alone.
local function meta_of(key, ours)
  local meta = redis.call('HMGET', key, 'format', 'epoch', 'last', 'snapshot')
  local function is_number(text, most)
    local plain = text and (text == '0' or string.match(text, '^[1-9]%d*$'))
    return plain and (#text < #most or #text == #most and text <= most)
  end
  if is_number(meta[1], '9007199254740991') and meta[1] ~= ours then
    return {meta[1], '0', '0', '0'}
  end
  local whole = is_number(meta[1], '9007199254740991')
    and is_number(meta[2], '18446744073709551615')
    and is_number(meta[3], '9007199254740990')
    and is_number(meta[4], '9007199254740990')
  return whole and meta or nil
end

