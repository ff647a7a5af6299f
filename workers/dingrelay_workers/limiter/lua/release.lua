-- Holds of an app are over, though no call that they kept back has come through.
for _, hold in ipairs(holds) do
  close_breaker(hold, microseconds())
  -- Of one that has expired only the name is left.
  redis.call('ZREM', BREAKERS, hold)
end
