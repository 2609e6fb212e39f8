-- What a script has done is not undone when it fails, so whether it may do the rest is asked
-- before its first write. (Redis 6 cannot be asked.)
local may = redis.acl_check_cmd
local function ask(...)
  if may and not may(...) then
    error({err = 'NOPERM this user may not ' .. (...) .. ' what the map needs'})
  end
end

