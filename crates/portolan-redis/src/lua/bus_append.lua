-- Appends an entry to a log and tells of it; nothing where the epoch is another.
-- KEYS: meta, log. ARGV: epoch, channel, the entry, most bytes of one that is told with its bytes,
-- format.
local meta = meta_of(KEYS[1], ARGV[5])
if not meta or meta[1] ~= ARGV[5] or meta[2] ~= ARGV[1] then return false end
local number = string.format('%.0f', tonumber(meta[3]) + 1)
ask('HSET', KEYS[1], 'last', number)
-- First what else can be refused: a script that fails is not undone.
redis.call('XADD', KEYS[2], number .. '-0', 'e', ARGV[3])
redis.call('HSET', KEYS[1], 'last', number)
local message = ARGV[1] .. ' ' .. number .. ' '
if #ARGV[3] <= tonumber(ARGV[4]) then message = message .. ARGV[3] end
redis.pcall('PUBLISH', ARGV[2], message)
return tonumber(number)
