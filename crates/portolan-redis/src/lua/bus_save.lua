-- Puts a snapshot that was uploaded in its place, and lets go of what it stands for.
-- KEYS: meta, log, snapshot, the upload, the claim. ARGV: epoch, place, lowest number to keep,
-- format.
local meta = meta_of(KEYS[1], ARGV[4])
if not meta or meta[1] ~= ARGV[4] or meta[2] ~= ARGV[1] or tonumber(meta[4]) >= tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[4])
  return 0
end
-- Where its time ran out on the way there is a part of it at most: five fields and the pieces.
local pieces = redis.call('HGET', KEYS[4], 'pieces')
if not pieces or redis.call('HLEN', KEYS[4]) ~= tonumber(pieces) + 5 then
  redis.call('DEL', KEYS[4])
  return 0
end
ask('PERSIST', KEYS[3])
ask('HSET', KEYS[1], 'snapshot', ARGV[2])
ask('XTRIM', KEYS[2], 'MINID', ARGV[3] .. '-0')
redis.call('RENAME', KEYS[4], KEYS[3])
redis.call('PERSIST', KEYS[3])
redis.call('HSET', KEYS[1], 'snapshot', ARGV[2])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3] .. '-0')
redis.call('DEL', KEYS[5])
return 1
