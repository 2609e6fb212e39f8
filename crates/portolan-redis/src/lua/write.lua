-- Begins every script that writes a map, after `ask.lua`. KEYS[1] is the hash, KEYS[2] the lease
-- that guards the write. ARGV: channel, command to publish, 'absolute', 'sliding' or '', time to live in ms, token of the
-- lease or ''; then the operation's own. Replies begin with what came of it.
local hash, channel, publish, ttl_mode = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local call = redis.call

if ARGV[5] ~= '' and call('HGET', KEYS[2], 'token') ~= ARGV[5] then
  return {'lost'}
end

local function ask_permission()
  ask(publish, channel, '')
  ask('HSET', hash, '=kind', 'set')
  if ttl_mode ~= '' then ask('PEXPIRE', hash, '1') end
end

local function expire()
  if ttl_mode == 'absolute' then
    call('PEXPIRE', hash, ARGV[4], 'NX')
  elseif ttl_mode == 'sliding' then
    call('PEXPIRE', hash, ARGV[4])
  end
end

