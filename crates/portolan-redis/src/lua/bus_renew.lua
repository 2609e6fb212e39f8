-- Begins a log anew: with one entry, then those of the old one above a number.
-- KEYS: meta, log, snapshot. ARGV: old epoch or '', number, new epoch, channel, the entry, format.
local meta = meta_of(KEYS[1], ARGV[6])
if meta and meta[1] ~= ARGV[6] or (meta and meta[2] or '') ~= ARGV[1] then return 0 end
-- Fails before anything is deleted where something else is under these keys.
redis.call('HLEN', KEYS[3])
ask('XADD', KEYS[2], '1-0', 'e', '')
ask('HSET', KEYS[1], 'last', '1')
local first, rest = tonumber(ARGV[2]) + 1, {}
-- Beyond what a number here can be nothing was appended by a server.
if first < 9007199254740992 then
  rest = redis.call('XRANGE', KEYS[2], string.format('%.0f', first) .. '-0', '+')
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('XADD', KEYS[2], '1-0', 'e', ARGV[5])
for i, entry in ipairs(rest) do
  redis.call('XADD', KEYS[2], (i + 1) .. '-0', 'e', entry[2][2])
end
redis.call('HSET', KEYS[1], 'format', ARGV[6], 'epoch', ARGV[3], 'last', #rest + 1, 'snapshot', 0)
redis.pcall('PUBLISH', ARGV[4], ARGV[3] .. ' 1 ')
return 1
