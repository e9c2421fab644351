-- Health of awsbatch.dev/BatchAccessPolicy, with the rules of kstatus: is it in force in each namespace that it selects?
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "The policy is being deleted; it stays in force until then" }
end
local ready = conditions.Ready
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to observe this policy" }
end
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if ready.status ~= "True" then
  return { status = "Progressing", message = ready.message }
end
return { status = "Healthy", message = ready.message }
