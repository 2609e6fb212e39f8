-- Begins every script that writes. KEYS[1] is the hash, KEYS[2] the lease that guards the write.
-- ARGV: channel, command to publish, 'absolute', 'sliding' or '', time to live in ms, token of the
-- lease or ''; then the operation's own. Replies begin with what came of it.
local hash, channel, publish, ttl_mode = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local call, may = redis.call, redis.acl_check_cmd

if ARGV[5] ~= '' and call('HGET', KEYS[2], 'token') ~= ARGV[5] then
  return {'lost'}
end

-- What a script has done is not undone when it fails, so whether it may do the rest is asked
-- before the first write, which is that of the revision. (Redis 6 cannot be asked.)
local function ask(...)
  if may and not may(...) then
    error({err = 'NOPERM this user may not ' .. (...) .. ' what the map needs'})
  end
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

