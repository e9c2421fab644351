-- Health of awsbatch.dev/BatchTermination, with the rules of kstatus: is the spec realised, as far as it is approved?
-- One that awaits its approval is healthy: it has counted, and nothing else is requested.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "The object is being deleted; what was not sent is not sent any more" }
end
local ready = conditions.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to observe this object" }
end
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if conditions.Reconciling ~= nil and conditions.Reconciling.status == "True" then
  return { status = "Progressing", message = conditions.Reconciling.message }
end
if ready.status ~= "True" then
  return { status = "Progressing", message = ready.message }
end
return { status = "Healthy", message = ready.message }
